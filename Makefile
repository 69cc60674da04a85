# Two commands do everything: `make demo` and `make test`. They need Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo

.PHONY: install demo test lint format types fuzz clean

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cuda13,dev,parquet,tensorboard]'
	touch $@

demo: $(INSTALLED)
	rm -rf $(DEMO)
	$(BIN)/selfie-data build-shards synthetic $(DEMO)/shards --limit 4096 --size 32
	$(BIN)/selfie-data verify $(DEMO)/shards
	$(BIN)/selfie-data preview $(DEMO)/shards --output $(DEMO)/preview.png

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(INSTALLED)
	$(BIN)/python -m pytest -m fuzz --timeout 3600 --override-ini addopts=

clean:
	rm -rf $(VENV) $(DEMO)
