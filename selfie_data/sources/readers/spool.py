"""Sources that can only be read from front to back are written once into a directory, then read at random.

The directory may be in a bucket: a part is written on this machine, then put there, so the disk holds one at a time.

    DIRECTORY/spool.json           which source this is, and, at the end, its parts in order
              PART.data            the images' bytes, one after another
              PART.rows            CRC-32C of what follows; npz: names, labels, lengths, CRC-32C of each 16 MiB of data

A part (a pickle, a row group, 64 MiB of a stream) is complete when its `.rows` is there; it is written last and
atomically. A spool that was cut short goes on: complete parts are checked, in a bucket by their size (a reply to a PUT
says that all arrived), and kept; the rest is written anew.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import BuildError, SourceError
from selfie_data.files import write_all
from selfie_data.source import Progress
from selfie_data.sources.naming.file_names import NameTable
from selfie_data.sources.readers.byte_ranges import Ranges
from selfie_data.storage.place import Place, storage_of

_VERSION = 2  # of the files in the directory; another version is written anew
_CHUNK = 16 << 20  # bytes under one checksum, written and reported at once
_PART_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_FILES = re.compile(r"\.?([A-Za-z0-9_.-]+\.(data|rows)|spool\.json)(\.tmp)?")

Chunk = bytes | memoryview | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some images of a source, in its order.

    Attributes:
        key: ASCII; the parts are put together in the order of their keys.
        names: what each image is called.
        labels: [n]; int64 codes, -1 for none, or texts, "" for none. All parts of a source agree.
        lengths: int64 [n], bytes of each image.
        payload: the images' bytes in any pieces; taken at most once, perhaps not at all.
    """

    key: str
    names: Sequence[str]
    labels: NDArray[np.int64] | list[str]
    lengths: NDArray[np.int64]
    payload: Iterable[Chunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All images of a source before its labels are made out: what `Part`s say, put together."""

    names: list[str]
    labels: NDArray[np.int64] | list[str]
    lengths: NDArray[np.int64]


class Reader(Protocol):
    """How one layout is read from front to back."""

    def parts(self, done: Container[str]) -> Iterator[Part]:
        """Yields the parts whose keys are not in `done`; may yield those too, and may reuse memory between parts."""


def scan(reader: Reader) -> Rows:
    """Reads everything and keeps names and labels only: what a dry run needs."""
    parts = sorted(((part.key, _rows(part)) for part in reader.parts(())), key=lambda pair: pair[0])
    return join_rows([rows for _, rows in parts])


def spool(
    reader: Reader, directory: Place, *, fingerprint: str, expected: int = 0, progress: Progress | None = None
) -> tuple[Rows, Ranges]:
    """Writes what is not yet in `directory`, checks what is.

    Args:
        reader: the source.
        directory: the spool's own, of this machine or in a bucket; made if need be.
        fingerprint: what is there for another fingerprint is thrown away.
        expected: bytes it will come to, for `progress`.
        progress: called after each 16 MiB.

    Raises:
        BuildError: the directory, or the one for temporaries, cannot be written.
    """
    report = progress or (lambda _done, _expected: None)
    try:
        if isinstance(directory, Path):
            directory = directory.absolute()
            directory.mkdir(parents=True, exist_ok=True)
            return _Spool(directory, directory, fingerprint, expected, report).fill(reader)
        with tempfile.TemporaryDirectory(prefix="selfie-spool-") as scratch:
            return _Spool(directory, Path(scratch), fingerprint, expected, report).fill(reader)
    except OSError as error:
        raise BuildError(f"cannot write the spool in {directory}: {error.strerror or error}") from error


class _Spool:
    def __init__(self, directory: Place, scratch: Path, fingerprint: str, expected: int, progress: Progress) -> None:
        self.directory = directory
        self.storage = storage_of(directory)
        self.scratch = scratch
        self.fingerprint = fingerprint
        self.expected = expected
        self.report = progress
        self.bytes_done = 0

    def fill(self, reader: Reader) -> tuple[Rows, Ranges]:
        listed = self._start()
        found = sorted(each.name for each in self.storage.list() if each.name.endswith(".rows"))
        done = {name.removesuffix(".rows"): rows for name in found if (rows := self._load(self.directory / name))}
        if listed is None or any(key not in done for key in listed):
            for part in reader.parts(done.keys()):
                if part.key not in done:
                    done[part.key] = self._write(part)
            listed = sorted(done)
            self.storage.write("spool.json", self._header(listed))
        return self._collect(listed, done)

    def _header(self, parts: list[str] | None) -> bytes:
        return json.dumps({"version": _VERSION, "source": self.fingerprint, "parts": parts}).encode()

    def _start(self) -> list[str] | None:
        """Returns the parts of a spool that is complete; throws away another source's."""
        try:
            found = json.loads((self.directory / "spool.json").read_bytes())
            if (found["version"], found["source"]) == (_VERSION, self.fingerprint):
                parts: list[str] | None = found["parts"]
                return parts
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        self.storage.delete([each.name for each in self.storage.list() if _FILES.fullmatch(each.name)])
        self.storage.write("spool.json", self._header(None))
        return None

    def _load(self, path: Place) -> Rows | None:
        """Returns a part that is complete and undamaged."""
        data = path.with_suffix(".data")
        try:
            stored = path.read_bytes()
            size = data.stat().st_size
        except FileNotFoundError:
            return None
        saved = open_columns(stored)
        if saved is None:
            return None
        labels = saved["codes"] if "codes" in saved else strings(saved, "texts")
        rows = Rows(names=strings(saved, "names"), labels=labels, lengths=saved["lengths"])
        if size != int(rows.lengths.sum()):
            return None
        if not isinstance(data, Path):
            self._count(size)
            return rows
        return rows if self._checksums(data) == saved["crc32c"].tolist() else None

    def _checksums(self, path: Path) -> list[int]:
        checksums = []
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                checksums.append(google_crc32c.value(chunk))
                self._count(len(chunk))
        return checksums

    def _check_room(self, needed: int) -> None:
        """Raises a BuildError where a part has no room on this machine; of a folder's spool the build asks before."""
        if (free := shutil.disk_usage(self.scratch).free) < needed:
            raise BuildError(
                f"{self.scratch.parent}: not enough space for a part of the spool: {needed} bytes needed, {free} free; "
                "make room or let TMPDIR name another disk"
            )

    def _count(self, length: int) -> None:
        self.bytes_done += length
        self.report(self.bytes_done, max(self.expected, self.bytes_done))

    def _write(self, part: Part) -> Rows:
        if not _PART_NAME.fullmatch(part.key):
            raise ValueError(f"a part's key is letters, digits, dot, dash or underscore, got {part.key!r}")
        if self.scratch != self.directory:
            self._check_room(int(part.lengths.sum()))
        scratch = self.scratch / f"{part.key}.data.tmp"
        checksums = []
        written = 0
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            for piece in _rechunk(part.payload):
                write_all(descriptor, piece)
                checksums.append(google_crc32c.value(bytes(piece)))
                written += len(piece)
                self._count(len(piece))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rows = _rows(part)
        if written != int(rows.lengths.sum()):
            raise AssertionError(f"part {part.key} has {written} bytes, its lengths say {int(rows.lengths.sum())}")
        self.storage.publish({f"{part.key}.data": scratch})
        columns: dict[str, Any] = {
            "lengths": rows.lengths,
            "crc32c": np.array(checksums, dtype=np.uint32),
            **table("names", rows.names),
        }
        columns |= table("texts", rows.labels) if isinstance(rows.labels, list) else {"codes": rows.labels}
        self.storage.write(f"{part.key}.rows", seal_columns(columns))
        return rows

    def _collect(self, keys: list[str], done: dict[str, Rows]) -> tuple[Rows, Ranges]:
        parts = [done[key] for key in keys]
        rows = join_rows(parts)
        paths = tuple(self.directory / f"{key}.data" for key in keys)
        counts = [len(part.names) for part in parts]
        starts = [np.cumsum(part.lengths, dtype=np.int64) - part.lengths for part in parts]
        ranges = Ranges(
            paths=paths,
            sizes=tuple(int(part.lengths.sum()) for part in parts),
            file=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
            offset=np.concatenate(starts) if starts else np.empty(0, np.int64),
            length=rows.lengths,
            names=NameTable.of(rows.names),
        )
        return rows, ranges


def _rows(part: Part) -> Rows:
    return Rows(names=list(part.names), labels=part.labels, lengths=part.lengths)


def join_rows(parts: list[Rows]) -> Rows:
    """Puts the rows of all parts together."""
    names = [name for part in parts for name in part.names]
    lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
    texts = [text for part in parts if isinstance(part.labels, list) for text in part.labels]
    codes = [part.labels for part in parts if isinstance(part.labels, np.ndarray)]
    if codes and texts:  # joined, one kind would take the places of the other
        raise SourceError("the labels of some parts of the source are texts and those of others numbers")
    return Rows(names=names, labels=np.concatenate(codes) if codes else texts, lengths=lengths)


def seal_columns(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns the bytes of a file of arrays: a CRC-32C and an npz."""
    saved = BytesIO()
    np.savez(saved, **columns)  # type: ignore[arg-type]
    packed = saved.getvalue()
    checksum: int = google_crc32c.value(packed)
    return checksum.to_bytes(4, "big") + packed


def open_columns(stored: bytes) -> dict[str, NDArray[Any]] | None:
    """Returns the arrays of such a file, None if it is damaged."""
    if len(stored) < 4 or google_crc32c.value(stored[4:]) != int.from_bytes(stored[:4], "big"):
        return None
    with np.load(BytesIO(stored[4:]), allow_pickle=False) as saved:
        return dict(saved)


def table(name: str, texts: list[str]) -> dict[str, NDArray[Any]]:
    """Returns the columns that texts take."""
    found = NameTable.of(texts)
    return {f"{name}.blob": np.frombuffer(found.blob, dtype=np.uint8), f"{name}.ends": found.ends}


def strings(saved: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """Returns the texts of such columns."""
    ends = saved[f"{name}.ends"].astype(np.int64)
    return NameTable(blob=saved[f"{name}.blob"].tobytes(), ends=ends).to_list()


def _rechunk(payload: Iterable[Chunk]) -> Iterator[bytearray | memoryview]:
    """Cuts any pieces into pieces of `_CHUNK` bytes, the last one shorter."""
    pending = bytearray()
    for piece in payload:
        view = memoryview(np.ascontiguousarray(piece).data if isinstance(piece, np.ndarray) else piece).cast("B")
        while view:
            room = _CHUNK - len(pending)
            pending += view[:room]
            view = view[room:]
            if len(pending) == _CHUNK:
                yield pending
                pending = bytearray()
    if pending:
        yield pending
