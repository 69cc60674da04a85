"""Records survive a file, say what is needed to judge them, and name nobody."""

import getpass
import json
import socket
from pathlib import Path

import pytest

from benchmarks.harness.record import commit, host, load, record, save
from benchmarks.harness.table import layout, number, summary


def test_saved_records_load_equal(tmp_path: Path) -> None:
    records = [
        record("loader", "raw32-float32", "selfie", [3.0, 1.0, 2.0], unit="images/s", settings={"batch": 512}),
        record("loader", "raw32-float32", "ffcv", [], unit="images/s", note="not installed"),
    ]
    save(records, tmp_path / "loader.jsonl")
    assert load(tmp_path / "loader.jsonl") == records
    assert [path.name for path in tmp_path.iterdir()] == ["loader.jsonl"]


def test_a_record_keeps_every_run_and_its_median() -> None:
    one = record("loader", "case", "selfie", [5.0, 1.0, 3.0], unit="images/s")
    assert one.runs == (5.0, 1.0, 3.0)
    assert (one.median, one.n) == (3.0, 3)
    assert one.low <= one.median <= one.high
    assert one.commit


def test_a_record_names_no_host_user_or_path(tmp_path: Path) -> None:
    save([record("loader", "case", "selfie", [1.0], unit="images/s")], tmp_path / "one.jsonl")
    line = json.loads((tmp_path / "one.jsonl").read_text())
    assert set(host()) == {"cpu", "cores", "memory_gib", "system", "python"}
    for secret in (socket.gethostname(), str(Path.home()), f"/{getpass.getuser()}/", str(tmp_path)):
        assert secret not in json.dumps(line)


def test_the_table_shows_systems_and_what_was_skipped() -> None:
    text = summary(
        [
            record("loader", "raw32", "slow", [10.0], unit="images/s"),
            record("loader", "raw32", "fast", [2000.0], unit="images/s"),
            record("loader", "raw32", "absent", [], unit="images/s", note="not installed"),
            record("loader", "raw32", "check", [], unit="", note="slow: other shape"),
        ]
    )
    assert text.index("fast") < text.index("slow")
    assert "2,000" in text
    assert "skipped absent: not installed" in text
    assert "check: slow: other shape" in text


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (0.12345, "0.1235"), (12.0, "12")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_line_up() -> None:
    lines = layout(("a", "b"), [("long name", "1"), ("x", "12345")]).splitlines()
    assert lines[2].endswith("    1")
    assert lines[3].endswith("12345")


def test_a_file_that_was_cut_short_loads_without_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    save([record("gpu", "case", "selfie", [1.0], unit="s")], path)
    with path.open("a") as file:
        file.write('{"question": "gpu", "ca')
    assert [one.system for one in load(path)] == ["selfie"]


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.__wrapped__() == "unknown"
