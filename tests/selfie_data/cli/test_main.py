"""The program as a whole: help of every command, version."""

import pytest
from click.testing import CliRunner, Result

from selfie_data.cli.__main__ import main


def run(*command: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in command])


@pytest.mark.parametrize("name", ["build-shards", "verify", "info", "stats", "split", "preview", "export-store"])
def test_help_is_there(name: str) -> None:
    shown = run(name, "--help")
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_the_version_is_told() -> None:
    assert run("--version").output == "selfie-data, version 0.1.0\n"
