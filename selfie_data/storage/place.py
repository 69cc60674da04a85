"""Places: what a user names is a path of this machine or a URL; a URL answers the questions that code asks of a path.

    place = place_of("s3://bucket/photographs")
    (place / "manifest.json").read_bytes()           # as of a pathlib.Path
    storage_of(place).publish({"shard-000000.tar": scratch})

Reading goes by places; what is written goes through `Storage`, which says what is whole and durable when.
"""

import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from selfie_data.storage.local import LocalStorage
from selfie_data.storage.protocol import PART_BYTES, Storage, StorageError
from selfie_data.storage.remote import BUCKETS, WEB, HttpStorage, ObjectStorage

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ESCAPED = {ord(character): f"%{ord(character):02X}" for character in "%#?"}


class Facts(NamedTuple):
    """The part of `os.stat_result` that is known of an object."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, slots=True, order=True)
class RemotePath:
    """What lies below a URL, asked like a `pathlib.Path`; errors are OSErrors as there.

    A folder is what names begin with: an empty one is none. Every question is a request, nothing is remembered. As text
    it is a URL again: what has a meaning there, as `#`, is escaped.

    Attributes:
        base: URL of the bucket or host.
        key: name in it, without `/` at its ends; "" for all of it.
    """

    base: str
    key: str

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.base, f"{self.key}/{name}".strip("/"))

    def __str__(self) -> str:
        return f"{self.base}/{self.key.translate(_ESCAPED)}".rstrip("/")

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2] or self.base.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.base, self.key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> "RemotePath":
        return RemotePath(self.base, str(PurePosixPath(self.key).with_suffix(suffix)))

    def absolute(self) -> "RemotePath":
        return self

    def stat(self) -> Facts:
        found = self._root.stat(self.key) if self.key else None
        if found is None and not self.is_dir():
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(self))
        return Facts(found.size, found.changed) if found else Facts(0, 0)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return bool(self.key) and self._root.stat(self.key) is not None

    def is_dir(self) -> bool:
        return self.listable and any(True for _ in self._root.list(self.key))

    @property
    def listable(self) -> bool:
        """Whether what lies below can be listed: a web server has no list."""
        return not self.base.startswith(WEB)

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        below = (found.name[len(self.key) :].lstrip("/") for found in self._root.list(self.key))
        return (self / name for name in dict.fromkeys(name.partition("/")[0] for name in below))

    def read_bytes(self) -> bytes:
        return self._root.read(self.key)

    def read_range(self, start: int, length: int) -> bytes:
        """Returns exactly these bytes."""
        return self._root.read(self.key, start=start, length=length)

    def copy_to(self, file: BinaryIO) -> None:
        """Writes all bytes to an open file of this machine, part by part."""
        with self.open("rb") as remote:
            shutil.copyfileobj(remote, file, PART_BYTES)

    def open(self, mode: str, buffering: int = -1) -> BinaryIO:
        """Opens a file for reading; `mode` must be "rb".

        Parts of 8 MiB are fetched when they are come to; without `buffering`, each read is a request of its own.
        """
        assert mode == "rb"
        raw = _Stream(self)
        return cast(BinaryIO, raw if buffering == 0 else io.BufferedReader(raw, PART_BYTES))

    @property
    def _root(self) -> Storage:
        return HttpStorage(self.base) if self.base.startswith(WEB) else ObjectStorage(self.base)


Place = Path | RemotePath


def place_of(text: Path | RemotePath | str) -> Place:
    """Returns what a user names: a URL's place or a path.

    Raises:
        StorageError: a scheme that is not known, credentials in the URL, or no bucket in it.
    """
    scheme = _URL.match(text) if isinstance(text, str) else None
    if scheme is None:
        return text if isinstance(text, RemotePath) else Path(text)
    kind = scheme[1].lower()
    if kind not in (*BUCKETS, *WEB):
        known = ", ".join(f"{each}://" for each in (*BUCKETS, *WEB))
        raise StorageError(f"{kind}://…", f"a URL begins with {known}")
    storage = ObjectStorage(str(text))  # refuses what no URL of a dataset may have
    base = "/".join(storage.url.split("/")[:3])
    return RemotePath(f"{kind}{base[len(kind) :]}", storage.prefix)


def storage_of(place: Place) -> Storage:
    """Returns the storage of a folder."""
    if isinstance(place, Path):
        return LocalStorage(place)
    return HttpStorage(str(place)) if place.base.startswith(WEB) else ObjectStorage(str(place))


def entries(folder: Place) -> list[Place]:
    """Returns what is in a folder, sorted."""
    found: Iterator[Place] = folder.iterdir()
    return sorted(found, key=lambda place: place.name)


def name_below(place: Place, folder: Place) -> str:
    """Returns the path from a folder to what lies in it, with `/`."""
    if isinstance(place, Path) and isinstance(folder, Path):
        return place.relative_to(folder).as_posix()
    assert isinstance(place, RemotePath)
    assert isinstance(folder, RemotePath)
    return place.key[len(folder.key) :].lstrip("/")


class _Stream(io.RawIOBase):
    """A remote file that is read by parts."""

    def __init__(self, path: RemotePath) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self.size - self.position))
        buffer[:wanted] = self.path.read_range(self.position, wanted)
        self.position += wanted
        return wanted
