"""Files whole or not there, on disk before they have their name; damage told in one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfie_data.errors import DatasetError, RunError
from selfie_data.files import damaged, number, open_atomic, read_json, write_atomic, write_output, write_output_json


def open_and_write(path: Path) -> None:
    with open_atomic(path) as file:
        file.write(b"x")


WRITERS: dict[str, Callable[[Path], None]] = {
    "write_atomic": lambda path: write_atomic(path, b"x"),
    "open_atomic": open_and_write,
    "write_output": lambda path: write_output(path, "x"),
    "write_output_json": lambda path: write_output_json(path, {"a": 1}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_content_is_synced_then_named_then_the_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    steps: list[tuple[str, str, int]] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(("fsync", str(target.relative_to(tmp_path)), 0 if target.is_dir() else target.stat().st_size))
        fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        steps.append(("replace", str(target.relative_to(tmp_path)), source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "file"
    WRITERS[name](path)
    size = path.stat().st_size
    assert size > 0
    assert [(call, length) for call, _, length in steps] == [("fsync", size), ("replace", size), ("fsync", 0)]
    assert [target for call, target, _ in steps if call == "replace"] == ["run/file"]
    assert steps[0][1].startswith("run/.file.")  # its own bytes, under a hidden name
    assert steps[2][1] == "run"  # and the folder that holds the new name
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_failure_leaves_the_file_before_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((OSError, RunError), match="No space left"):
        WRITERS[name](path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_an_output_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"cannot be made a folder \(.*\); give another --out"):
        write_output(tmp_path / "file" / "below", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"folder: cannot be written \(.*\); give another --out, or make room"):
        write_output(tmp_path / "folder", "x")


def test_a_missing_entry_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x is damaged or of another version \(no entry 'a'\); do this"):  # noqa: SIM117
        with damaged(tmp_path / "x", remedy="do this"):
            _ = {}["a"]  # type: ignore[var-annotated]
    assert read_json(tmp_path / "x", remedy="") is None
    assert number({"a": 0.5}, "a") == 0.5


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000], ids=lambda content: repr(content[:9]))
def test_damage_is_the_error_that_was_asked_for(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DatasetError, match=r"is damaged or of another version .*; build it anew"):
        read_json(tmp_path / "x", remedy="build it anew", error=DatasetError)
    record: dict[str, Any] = {"a": [1, None]}
    write_output_json(tmp_path / "x", record)
    assert read_json(tmp_path / "x", remedy="") == record
