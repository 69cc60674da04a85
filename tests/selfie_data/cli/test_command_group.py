"""The group of commands: entry points, and Ctrl-C while a program or a command is still being imported."""

import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
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


def test_help_reads_no_entry_points_and_lists_the_command_that_joins_by_one() -> None:
    code = "import sys; from selfie_data.cli.__main__ import main; main(['--help'], standalone_mode=False); "
    code += "print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  preview       Draw a sheet of pictures" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "Error: the command preview is not installed: no package has an entry point of that name"),
        (
            ["nowhere.at.all:command"],
            "Error: the command preview cannot be loaded from nowhere.at.all:command (No module",
        ),
        (["selfie_data.errors:command"], "Error: the command preview cannot be loaded from selfie_data.errors:command"),
    ],
    ids=["missing", "no module", "no attribute"],
)
def test_an_entry_point_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, entries: list[str], message: str
) -> None:
    group = "selfie_data.commands"
    found = [EntryPoint("preview", value, group) for value in entries]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group, name: found)
    result = CliRunner().invoke(main, ["preview", "out"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(message)
    assert "install" in line


def test_the_installed_program_draws_a_preview(tmp_path: Path, raw_dataset: Path) -> None:
    program = Path(sys.executable).with_name("selfie-data")
    if not program.exists():
        pytest.skip("the programs are not installed beside this Python")
    command = [program, "preview", raw_dataset, "-o", tmp_path / "sheet.png", "--count", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
