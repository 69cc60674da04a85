"""Benchmarks are read more often than run: their files stay short. Rooms and layers: `tests/test_architecture.py`."""

from benchmarks.harness.record import ROOT

LONGEST_FILE = 250  # lines


def test_no_file_is_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / "benchmarks").rglob("*.py")}
    assert {path.name: count for path, count in lines.items() if count > LONGEST_FILE} == {}
