# Two commands do everything: `make demo` and `make test`. They need Python >= 3.11 and make.
# `.venv` holds what the packages run with; what only tests, linters or the documents need comes when they are asked for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
RUNTIME := $(VENV)/.installed
TOOLS := $(VENV)/.installed-dev
SPHINX := $(VENV)/.installed-docs
DEMO := demo
IMAGENET32 ?= imagenet32

.PHONY: install demo results-quick test lint format types fuzz docs bench bench-env clean

install: $(TOOLS) $(SPHINX)

$(RUNTIME): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[cuda13]'
	touch $@

$(TOOLS): $(RUNTIME)
	$(INSTALL) '.[cuda13,dev,examples,onnx,parquet,ray,remote,tensorboard]'
	touch $@

$(SPHINX): $(RUNTIME)
	$(INSTALL) '.[cuda13,docs]'
	touch $@

# Generated pictures → shards → pretraining → finetuning with few labels against supervised from scratch → a page.
demo: $(RUNTIME)
	rm -rf $(DEMO)
	$(BIN)/selfie-data build-shards synthetic $(DEMO)/shards --limit 16384 --size 32
	$(BIN)/selfie-data build-shards synthetic $(DEMO)/test --limit 2000 --size 32 --split test
	$(BIN)/selfie-data verify $(DEMO)/shards
	$(BIN)/selfie-data preview $(DEMO)/shards --output $(DEMO)/preview.png
	$(BIN)/selfie-model reproduce $(DEMO)/shards --test $(DEMO)/test --preset tiny --fractions 1,5 --seeds 3 \
		--learning-rates 0.1 --out $(DEMO)/study
	$(BIN)/selfie-model report $(DEMO)/study --shards $(DEMO)/test
	@echo "Look at $(DEMO)/preview.png and $(DEMO)/study/report.html"

# One cell of the recorded study, done again: is the accuracy what docs/results.md says? IMAGENET32=FOLDER has train/, val/.
results-quick: $(RUNTIME)
	$(BIN)/selfie-data build-shards folder $(DEMO)/imagenet32 --root $(IMAGENET32)/train --size 32
	$(BIN)/selfie-data build-shards folder $(DEMO)/imagenet32-val --root $(IMAGENET32)/val --size 32 \
		--classes-from $(DEMO)/imagenet32
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks repeat-cell benchmarks/results/study_imagenet32.json \
		$(DEMO)/imagenet32 $(DEMO)/imagenet32-val

test: $(TOOLS)
	$(BIN)/python -m pytest

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TOOLS)
	$(BIN)/mypy

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(TOOLS)
	$(BIN)/python -m pytest -m fuzz --timeout 3600

# Guides, decisions and the reference, from the docstrings; readable offline.
docs: $(SPHINX)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

# The peers' own environment. FFCV is compiled: on Debian it needs pkg-config, libopencv-dev and libturbojpeg0-dev; where
# it does not build, the benchmark says so and goes on without it.
BENCH_ENV := .bench-env
PEERS := benchmarks/peers
bench-env: $(BENCH_ENV)/.installed

$(BENCH_ENV)/.installed: $(PEERS)/requirements.txt $(PEERS)/constraints.txt
	$(PYTHON) -m venv $(BENCH_ENV)
	$(BENCH_ENV)/bin/python -m pip install --quiet --constraint $(PEERS)/constraints.txt --requirement $(PEERS)/requirements.txt
	$(BENCH_ENV)/bin/python -m pip install --quiet --constraint $(PEERS)/constraints.txt --no-deps litdata mosaicml-streaming
	-$(BENCH_ENV)/bin/python -m pip install --quiet --constraint $(PEERS)/constraints.txt --no-deps --no-build-isolation --no-binary ffcv ffcv
	touch $@

bench: $(TOOLS) bench-env
	$(BIN)/python -m benchmarks loader --peers all --rounds 10

clean:
	rm -rf $(VENV) $(BENCH_ENV) $(DEMO) docs/_build docs/reference
