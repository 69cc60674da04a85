"""Ctrl-C while a program or a command is still being imported ends like any other: one line, exit 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfie_data.cli.__main__ import main

ROOT = Path(__file__).parents[3]
# Stands for a user who presses Ctrl-C at the moment when a module is looked for.
INTERRUPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
from {program} import main
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("program", "module", "arguments"),
    [
        ("selfie_data.cli.__main__", "click", ["verify", "."]),
        ("selfie_data.cli.__main__", "numpy", ["verify", "."]),
        ("selfie_data.cli.__main__", "selfie_data.commands.build_shards", ["build-shards", "synthetic", "out"]),
        ("selfie_model.cli", "click", ["evaluate", ".", "."]),
        ("selfie_model.cli", "selfie_model.data", ["pretrain", ".", "--preset", "tiny", "--out", "out"]),
        ("selfie_model.cli", "torch", ["evaluate", ".", "."]),
    ],
)
def test_ctrl_c_during_an_import_is_one_line(tmp_path: Path, program: str, module: str, arguments: list[str]) -> None:
    code = INTERRUPT.format(program=program, module=module, arguments=arguments)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (130, -signal.SIGINT)  # the latter is 130 to a shell
    assert (done.stdout, done.stderr) == ("", "stopped by SIGINT\n")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_a_command_without_words_of_its_own(monkeypatch: pytest.MonkeyPatch, raw_dataset: Path) -> None:
    def interrupts(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selfie_data.commands.verify.verify_dataset", interrupts)
    result = CliRunner().invoke(main, ["verify", str(raw_dataset)])
    assert (result.exit_code, result.output) == (130, "stopped by SIGINT\n")
