"""Only files with tests for a GPU are collected."""

from benchmarks.gpu.sections.tests import files
from benchmarks.harness.record import ROOT


def test_the_files_are_those_with_marked_tests() -> None:
    assert "tests/pipelines/backends/test_gpu.py" in files()
    assert all("mark.gpu" in (ROOT / name).read_text() for name in files())
