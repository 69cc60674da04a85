"""Named files in a folder, a tar, a gzipped tar or a zip, one after another, without unpacking anything."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from selfie_data.errors import SourceError
from selfie_data.notices import Notices
from selfie_data.sources.naming.file_names import is_junk, printable, reason_to_pass_over
from selfie_data.sources.readers.checksums import has_official_size
from selfie_data.sources.readers.tarball import FileWindow, ForwardWindow, ObjectWindow, Window, list_members, open_tar
from selfie_data.storage.place import Place, entries
from selfie_data.storage.protocol import StorageError

_BUFFER = 1 << 20  # bytes; reads of one row or one header then cost no call of the system
# What decompressors and disks raise in the middle of a file.
_DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, OSError)


class Entry(NamedTuple):
    """A file: its path in the archive or folder, its size, its bytes (readable until the next entry is taken).

    `path` is where it lies if it is a file of a folder of this machine.
    """

    name: str
    size: int
    stream: BinaryIO
    path: Path | None = None


def is_gzip(path: Place) -> bool:
    return _magic(path, 2) == b"\x1f\x8b"


def is_zip(path: Place) -> bool:
    return _magic(path, 4) in (b"PK\x03\x04", b"PK\x05\x06")


def _magic(path: Place, length: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(length)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def unpacked_bytes(path: Place) -> int:
    """Returns about how many bytes an archive unpacks to; for gzip, a guess from its last four bytes (modulo 4 GiB)."""
    size = path.stat().st_size
    if is_zip(path):
        with _open_zip(path) as archive:
            return sum(info.file_size for info in archive.infolist())
    if not is_gzip(path) or size < 4:
        return size
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        guess = int(struct.unpack("<I", file.read(4))[0])
    while guess < size * 0.99:  # deflate never shrinks by less than that
        guess += 1 << 32
    return guess


def list_entries(path: Place, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Yields the wanted files of a folder (its own, not those below), tar, gzipped tar or zip.

    Args:
        path: folder or archive.
        wanted: says by a file's name, without folders, whether it is wanted.

    Raises:
        SourceError: damaged, truncated or hostile archive; two wanted files of one name.
    """
    seen: set[str] = set()
    for entry in _entries(path, wanted):
        base = entry.name.rpartition("/")[2]
        if base in seen:
            raise SourceError(f"{path.name} holds {printable(base)} twice")
        seen.add(base)
        yield entry


def tell_others(path: Place, known: Callable[[str], bool]) -> Notices:
    """Returns the files of a folder or archive, by reason, that are neither read nor expected there.

    Args:
        path: folder (its own files and folders, not what lies below) or archive.
        known: says by a file's name, without folders, whether it is read, or belongs to the official data.

    A gzipped archive in a bucket is fetched once more for that, unless it is an official one, which holds nothing else.
    """
    notices = Notices()
    if not isinstance(path, Path) and path.is_file() and has_official_size(path):
        return notices
    for name in _names(path):
        if reason := reason_to_pass_over(name):
            notices.add(reason, printable(name))
        elif not known(name.rstrip("/").rpartition("/")[2]):
            notices.add("files that are no part of the official data", printable(name))
    return notices


def _names(path: Place) -> list[str]:
    if path.is_dir():
        return [file.name + "/" * file.is_dir() for file in entries(path)]
    if is_zip(path):
        with _open_zip(path) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    with OpenedTar(path) as opened:
        return [member.name for member in list_members(opened.window)]


def _entries(path: Place, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    def take(name: str) -> bool:
        return not is_junk(name) and wanted(name.rpartition("/")[2])

    if path.is_dir():
        return _folder_entries(path, take)
    if is_zip(path):
        return _zip_entries(path, take)
    return _tar_entries(path, take)


def _folder_entries(path: Place, take: Callable[[str], bool]) -> Iterator[Entry]:
    for file in entries(path):
        if take(file.name) and file.is_file():
            try:
                with file.open("rb") as stream:
                    size = file.stat().st_size
                    local = file if isinstance(file, Path) else None
                    yield Entry(file.name, size, checked_stream(stream, file.name), local)
            except OSError as error:
                raise SourceError(f"cannot read {file}: {error.strerror}") from error


def _zip_entries(path: Place, take: Callable[[str], bool]) -> Iterator[Entry]:
    with _open_zip(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.is_dir() or not take(info.filename):
                continue
            if info.flag_bits & 1:
                raise SourceError(f"{path.name}: {printable(info.filename)} is encrypted; unpack it first")
            try:
                with archive.open(info) as stream:
                    yield Entry(info.filename, info.file_size, checked_stream(cast(BinaryIO, stream), path.name))
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise SourceError(f"{path.name} is a damaged zip: {error}") from error


def _open_zip(path: Place) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path if isinstance(path, Path) else path.open("rb"))
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path.name} is a damaged or truncated zip: {error}") from error


def _tar_entries(path: Place, take: Callable[[str], bool]) -> Iterator[Entry]:
    with OpenedTar(path) as opened:
        for member in list_members(opened.window):
            if take(member.name):
                raw = _WindowStream(opened.window, member.offset, member.size)
                yield Entry(member.name, member.size, cast(BinaryIO, io.BufferedReader(raw, _BUFFER)))


class OpenedTar:
    """Opens a tar for listing: in place if it is plain, front to back if it is gzipped."""

    def __init__(self, path: Place) -> None:
        self._descriptor: int | None = None
        self._stream: BinaryIO | None = None
        self.window: Window
        if is_gzip(path):
            self._stream = _open_gzip(path)
            self.window = ForwardWindow(checked_stream(self._stream, path.name), label=path.name)
        elif isinstance(path, Path):
            self._descriptor = open_tar(path)
            self.window = FileWindow(self._descriptor, label=path.name)
        else:
            self.window = ObjectWindow(path)

    def __enter__(self) -> "OpenedTar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._descriptor is not None:
            os.close(self._descriptor)


def _open_gzip(path: Place) -> BinaryIO:
    try:
        return cast(BinaryIO, gzip.open(path if isinstance(path, Path) else path.open("rb"), "rb"))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def checked_stream(stream: BinaryIO, label: str) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_CheckedStream(stream, label), _BUFFER))


class _CheckedStream(io.RawIOBase):
    """Turns what decompressors and disks raise in the middle of a file into one kind of error."""

    def __init__(self, stream: BinaryIO, label: str) -> None:
        self.stream = stream
        self.label = label

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self.stream.read(len(buffer))
        except StorageError:
            raise
        except _DAMAGED as error:
            raise SourceError(f"{self.label} is truncated or damaged: {error}") from error
        buffer[: len(data)] = data
        return len(data)


class _WindowStream(io.RawIOBase):
    """A member of a tar as a file."""

    def __init__(self, window: Window, offset: int, size: int) -> None:
        self.window = window
        self.offset = offset
        self.end = offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self.end - self.offset)
        data = self.window.read_at(self.offset, wanted)
        if len(data) < wanted:
            raise SourceError(f"{self.window.label} is truncated: it ends inside a member")
        buffer[: len(data)] = data
        self.offset += len(data)
        return len(data)
