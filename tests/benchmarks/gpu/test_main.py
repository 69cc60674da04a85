"""The command: records are added as they come, and without a GPU only a dry run is allowed."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.report import append
from benchmarks.harness.record import load, record


def test_without_a_gpu_only_a_dry_run_is_allowed() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "--dry-run" in result.output


def test_an_unknown_section_is_a_mistake_of_the_user() -> None:
    result = CliRunner().invoke(main, ["--dry-run", "--only", "nonsense"])
    assert result.exit_code == 2
    assert "got nonsense" in result.output


def test_calls_and_sections_are_told_without_a_gpu() -> None:
    assert "All limits together" in CliRunner().invoke(main, ["--calls"]).output
    assert "parity: same ids" in CliRunner().invoke(main, ["--list"]).output


def test_tables_of_several_files(tmp_path: Path) -> None:
    for name, case, system in (("a", "throughput: 32 px", "shards"), ("b", "throughput: 224 px", "jpeg256: default")):
        append(record("gpu", case, system, [400_000.0], unit="images/s"), tmp_path / f"{name}.jsonl")
    files = [argument for name in "ab" for argument in ("--tables", str(tmp_path / f"{name}.jsonl"))]
    result = CliRunner().invoke(main, files)
    assert result.exit_code == 0
    assert result.output.count("holds") == 2


def test_some_sections_are_added_to_the_records_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_section(name: str, module: str, setting: object, keep: object) -> None:
        assert callable(keep)
        keep(record("gpu", "case", f"{name} {module}", [1.0], unit="s"))

    monkeypatch.setattr("benchmarks.gpu.__main__.isolated", no_section)
    monkeypatch.setenv("OUT", str(tmp_path))
    for only in ("parity", "tests"):
        assert CliRunner().invoke(main, ["--dry-run", "--only", only]).exit_code == 0
    systems = [one.system for one in load(tmp_path / "gpu.dry-run.jsonl")]
    assert systems == ["parity benchmarks.gpu.sections.parity", "tests benchmarks.gpu.sections.tests"]
    assert "DRY RUN" in (tmp_path / "gpu.dry-run.txt").read_text()
