"""The spool: written once, checked, resumed after any interruption, never trusted blindly."""

import errno
import os
import shutil
import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.errors import BuildError, SourceError
from selfie_data.sources.readers import spool as spool_module
from selfie_data.sources.readers.byte_ranges import Descriptors
from selfie_data.sources.readers.spool import Part, Rows, scan, spool
from selfie_data.storage.place import place_of, storage_of


@dataclass
class Letters:
    """Three parts of images "a0", "a1", …; can be made to fail after some parts; remembers what it was asked for."""

    fail_after: int | None = None
    texts: bool = False
    asked: list[str] = field(default_factory=list)

    def parts(self, done: Container[str]) -> Iterator[Part]:
        for number, key in enumerate("abc"):
            if number == self.fail_after:
                raise KeyboardInterrupt
            if key not in done:
                self.asked.append(key)
                images = [f"{key}{index}".encode() * (index + 1) for index in range(3)]
                yield Part(
                    key=key,
                    names=[f"{key}/{index}" for index in range(3)],
                    labels=[key, "", "ü"] if self.texts else np.array([number, -1, 7]),
                    lengths=np.array([len(image) for image in images]),
                    payload=images,
                )


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def check(rows: Rows, directory: Path) -> None:
    assert rows.names == [f"{key}/{index}" for key in "abc" for index in range(3)]
    assert np.asarray(rows.labels).tolist() == [0, -1, 7, 1, -1, 7, 2, -1, 7]
    assert (directory / "b.data").read_bytes() == b"b0b1b1b2b2b2"


def test_rows_and_ranges_are_what_the_reader_said(tmp_path: Path) -> None:
    rows, ranges = spool(Letters(), tmp_path / "spool", fingerprint="f")
    check(rows, tmp_path / "spool")
    for index, name in enumerate(rows.names):
        path = ranges.paths[int(ranges.file[index])]
        start, length = int(ranges.offset[index]), int(ranges.length[index])
        expected = name.replace("/", "").encode() * (int(name[2:]) + 1)
        assert path.read_bytes()[start : start + length] == expected
        assert ranges.names[index] == name
    scanned = scan(Letters())
    assert scanned.names == rows.names
    np.testing.assert_array_equal(scanned.labels, rows.labels)


def test_texts_survive(tmp_path: Path) -> None:
    first, _ = spool(Letters(texts=True), tmp_path, fingerprint="f")
    again, _ = spool(Letters(texts=True), tmp_path, fingerprint="f")
    assert first.labels == again.labels == ["a", "", "ü", "b", "", "ü", "c", "", "ü"]


def test_a_complete_spool_is_not_read_again(tmp_path: Path) -> None:
    spool(Letters(), tmp_path, fingerprint="f")
    reader = Letters(fail_after=0)
    rows, _ = spool(reader, tmp_path, fingerprint="f")
    assert reader.asked == []
    check(rows, tmp_path)


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_an_interrupted_spool_goes_on_where_it_was(tmp_path: Path, parts: int) -> None:
    spool(Letters(), tmp_path / "whole", fingerprint="f")
    with pytest.raises(KeyboardInterrupt):
        spool(Letters(fail_after=parts), tmp_path / "cut", fingerprint="f")
    reader = Letters()
    rows, _ = spool(reader, tmp_path / "cut", fingerprint="f")
    assert reader.asked == list("abc")[parts:]
    check(rows, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["b.data", "b.rows"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_part_is_written_anew(tmp_path: Path, name: str, damage: str) -> None:
    spool(Letters(), tmp_path, fingerprint="f")
    whole = contents(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-1]), "empty": b""}[damage])
    reader = Letters()
    rows, _ = spool(reader, tmp_path, fingerprint="f")
    assert reader.asked == ["b"]
    check(rows, tmp_path)
    assert contents(tmp_path) == whole


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_in_a_table_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool(Letters(), directory, fingerprint="f")
    path = directory / "b.rows"
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    rows, _ = spool(Letters(), directory, fingerprint="f")
    check(rows, directory)


def test_the_spool_of_another_source_is_thrown_away_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        spool(Letters(fail_after=2), tmp_path, fingerprint="one")
    (tmp_path / "notes of the user").write_text("kept")
    reader = Letters()
    spool(reader, tmp_path, fingerprint="two")
    assert reader.asked == ["a", "b", "c"]
    assert (tmp_path / "notes of the user").read_text() == "kept"


def test_a_damaged_header_starts_over(tmp_path: Path) -> None:
    spool(Letters(), tmp_path, fingerprint="f")
    for damage in (b"", b"{", b"[]", b'{"version": 99}'):
        (tmp_path / "spool.json").write_bytes(damage)
        rows, _ = spool(Letters(), tmp_path, fingerprint="f")
        check(rows, tmp_path)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_an_io_error_is_one_line_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, call: str, after: int
) -> None:
    real = getattr(os, call)
    calls = 0

    def fail(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(error, os.strerror(error))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(BuildError, match=f"cannot write the spool in .*{os.strerror(error)}"):
            spool(Letters(), tmp_path / "spool", fingerprint="f")
    rows, _ = spool(Letters(), tmp_path / "spool", fingerprint="f")
    check(rows, tmp_path / "spool")


def test_progress_counts_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_CHUNK", 5)
    seen: list[tuple[int, int]] = []
    spool(
        Letters(), tmp_path, fingerprint="f", expected=36, progress=lambda done, expected: seen.append((done, expected))
    )
    assert seen[-1] == (36, 36)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    spool(
        Letters(), tmp_path, fingerprint="f", expected=36, progress=lambda done, expected: seen.append((done, expected))
    )
    assert seen[-1] == (36, 36)


@settings(max_examples=50)
@given(
    pieces=st.lists(st.binary(max_size=30), max_size=8),
    size=st.integers(1, 20),
)
def test_pieces_are_cut_without_loss(pieces: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "_CHUNK", size)
        cut = [bytes(piece) for piece in spool_module._rechunk(pieces)]
    assert b"".join(cut) == b"".join(pieces)
    assert all(len(piece) == size for piece in cut[:-1])


def test_texts_and_numbers_are_not_joined(tmp_path: Path) -> None:
    class Mixed:
        def parts(self, done: Container[str]) -> Iterator[Part]:
            yield Part(key="0", names=["a"], labels=["1"], lengths=np.array([1]), payload=[b"x"])
            yield Part(key="1", names=["b"], labels=np.array([0]), lengths=np.array([1]), payload=[b"x"])

    for read in (lambda: scan(Mixed()), lambda: spool(Mixed(), tmp_path / "spool", fingerprint="f")):
        with pytest.raises(SourceError, match="labels of some parts of the source are texts and those of others num"):
            read()


def test_a_spool_in_a_bucket_is_that_of_a_folder_and_goes_on(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, place = tmp_path / "here", place_of(bucket) / "spool"
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    with pytest.raises(KeyboardInterrupt):
        spool(Letters(fail_after=2), place, fingerprint="f")
    storage = storage_of(place)
    storage.write("a.data", b"cut short")
    reader = Letters()
    rows, ranges = spool(reader, place, fingerprint="f")
    assert reader.asked == ["a", "c"]
    expected, _ = spool(Letters(), tmp_path / "spool", fingerprint="f")
    assert rows.names == expected.names
    assert {each.name: storage.read(each.name) for each in storage.list()} == contents(tmp_path / "spool")
    assert ranges.read_bytes(4, Descriptors(3)) == b"b1b1"
    assert list(here.iterdir()) == []
    spool(other := Letters(), place, fingerprint="other")
    assert other.asked == ["a", "b", "c"]


def test_a_part_without_room_on_this_machine_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(20, 9, 11))  # type: ignore[attr-defined]
    rule = r"not enough space for a part of the spool: 12 bytes needed, 11 free; make room or let TMPDIR"
    with pytest.raises(BuildError, match=rule):
        spool(Letters(), place_of(bucket) / "spool", fingerprint="f")
