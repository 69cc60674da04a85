"""Sources made of the members of tars: listed and read in place, or cut out of a stream.

A plain tar is listed by its headers and read by offset. A gzipped one, or one that arrives over a network, is read from
front to back and cut into parts that a spool keeps.
"""

import contextlib
import hashlib
import json
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import BuildError, SourceError
from selfie_data.images.formats import HEAD_BYTES
from selfie_data.notices import Notices
from selfie_data.source import Json
from selfie_data.sources.naming.file_names import NameTable, printable
from selfie_data.sources.readers.archives import OpenedTar, unpacked_bytes
from selfie_data.sources.readers.byte_ranges import Ranges, RangeSource, check_length
from selfie_data.sources.readers.image_tree import (
    MAX_LABEL_BYTES,
    FileFilter,
    is_label,
    is_wanted,
    label_text,
    resolve_tree,
)
from selfie_data.sources.readers.spool import Part, Rows, open_columns, seal_columns, strings, table
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource, describe, facts_of, fingerprint_of
from selfie_data.sources.readers.tarball import Member, Window, list_members
from selfie_data.storage.place import Place, RemotePath, storage_of
from selfie_data.storage.protocol import StorageError

_AT_ONCE = 8  # tars that are listed: each is a chain of requests
_VERSION = 1  # of kept listings
T = TypeVar("T")

_PART_BYTES = 64 << 20  # of a part of a stream: what is held in memory at once, and lost when a spool is cut short


class Choice(NamedTuple):
    """What of a tar is read, and what its labels are: see `image_tree.FileFilter` and `image_tree.resolve_tree`."""

    subtree: str | None
    classes: tuple[str, ...] | None
    class_level: int | None


def open_in_place(
    kind: str, paths: list[Place], choice: Choice, *, parted: bool = False, listings: Place | None = None
) -> RangeSource:
    """Lists plain tars and returns a source that reads them by offset.

    Args:
        kind: the source's name.
        paths: the tars, in order.
        choice: what of them is read.
        parted: the tars are shards: names begin with a shard's name, and folders are no classes.
        listings: where listings of remote tars are kept, see `kept`.
    """
    listing, wanted = Listing(), FileFilter(choice.subtree)

    def listed(path: Place) -> Listing:
        def make() -> Listing:
            with OpenedTar(path) as opened:
                return Listing().add(opened.window, wanted, prefix=f"{path.name}/" if parted else "")

        return kept(listings, path, ["members", wanted.subtree, parted], make)

    for number, found in enumerate(several(listed, paths, at_once=isinstance(paths[0], RemotePath))):
        listing.extend(found, file=number)
    label = paths[0].name if len(paths) == 1 else f"the set of {len(paths)} tars"
    resolved = resolve_tree(
        listing.rows(),
        classes=choice.classes,
        label=wanted.part_of(label),
        folders=not parted,
        parted=parted,
        asked=wanted.asked,
        class_level=choice.class_level,
    )
    chosen = _chosen(choice)
    return RangeSource(
        kind=kind,
        description=describe(kind, chosen, paths),
        fingerprint=fingerprint_of(kind, chosen, facts_of(paths), choice.classes),
        ranges=listing.ranges(paths).take(resolved.order),
        labelled=resolved.labelled,
        notices=resolved.notices or Notices(),
    )


def open_gzipped(kind: str, path: Place, choice: Choice) -> SpooledSource:
    """Returns a source that reads a gzipped tar from front to back."""
    return SpooledSource.of_files(
        kind,
        [path],
        _GzippedTar(path=path, choice=choice),
        chosen=_chosen(choice),
        classes=choice.classes,
        spool_bytes=unpacked_bytes(path),
    )


def _chosen(choice: Choice) -> dict[str, Json]:
    """Returns the options that go into the description; the level is new there, and not said where it is not given."""
    level: dict[str, Json] = {} if choice.class_level is None else {"class_level": choice.class_level}
    return {"subtree": FileFilter(choice.subtree).subtree, **level}


class Listing:
    """Members of tars, gathered compactly: 16 bytes and a name each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.texts: list[str] = []
        self.files = array("i")
        self.offsets = array("q")
        self.lengths = array("q")

    @classmethod
    def of(cls, members: Iterable[Member]) -> "Listing":
        """Returns a listing of members as they are."""
        listing = cls()
        for name, offset, size in members:
            listing.names.append(name)
            listing.offsets.append(offset)
            listing.lengths.append(size)
        listing.texts = [""] * len(listing.names)
        listing.files.extend([0] * len(listing.names))
        return listing

    def members(self) -> list[Member]:
        return [Member(*each) for each in zip(self.names, self.offsets, self.lengths, strict=True)]

    @classmethod
    def load(cls, stored: bytes) -> "Listing | None":
        """Returns what `dump` wrote, None if it is damaged."""
        saved = open_columns(stored)
        if saved is None:
            return None
        listing = cls()
        listing.names, listing.texts = strings(saved, "names"), strings(saved, "texts")
        for column, name in ((listing.files, "files"), (listing.offsets, "offsets"), (listing.lengths, "lengths")):
            column.frombytes(saved[name].tobytes())
        return listing

    def dump(self) -> bytes:
        """Returns the bytes of a file."""
        columns = {**table("names", self.names), **table("texts", self.texts), "offsets": _int64(self.offsets)}
        columns |= {"files": np.array(self.files, np.int32), "lengths": _int64(self.lengths)}
        return seal_columns(columns)

    def extend(self, other: "Listing", *, file: int = 0) -> None:
        """Adds the members of a listing, as those of the file numbered `file`."""
        self.names += other.names
        self.texts += other.texts
        self.files.extend([file] * len(other.names))
        self.offsets.extend(other.offsets)
        self.lengths.extend(other.lengths)

    def add(self, window: Window, wanted: FileFilter, *, file: int = 0, start: int = 0, prefix: str = "") -> "Listing":
        """Adds the members of one tar below the subtree; `start` is where the tar begins in its file."""
        for member in _members(window, wanted):
            label = is_label(member.name)
            used = label or is_wanted(member.name, member.size, partial(window.read_at, member.offset, HEAD_BYTES))
            self.texts.append(_read_label(window, member) if label else "")
            self.names.append(prefix + member.name)
            self.files.append(file)
            self.offsets.append(start + member.offset)
            self.lengths.append(member.size if used else 0)
        return self

    def rows(self, start: int = 0) -> Rows:
        """Returns the members from the one numbered `start` on."""
        return Rows(names=self.names[start:], labels=self.texts[start:], lengths=_int64(self.lengths)[start:])

    def ranges(self, paths: list[Place]) -> Ranges:
        return Ranges(
            paths=tuple(path.absolute() for path in paths),
            sizes=tuple(path.stat().st_size for path in paths),
            file=np.frombuffer(self.files, dtype=np.int32) if self.files else np.empty(0, np.int32),
            offset=_int64(self.offsets),
            length=_int64(self.lengths),
            names=NameTable.of(self.names),
        )


def kept(folder: Place | None, tar: Place, what: Json, make: Callable[[], Listing]) -> Listing:
    """Returns the listing of a remote tar that another process kept in `folder`, or makes and keeps it.

    Args:
        folder: of listings; None: nothing is kept.
        tar: told by name, size and time of change.
        what: which listing of it.
        make: lists.

    Raises:
        BuildError: it cannot be kept.
    """
    if folder is None or isinstance(tar, Path):
        return make()
    digest = hashlib.sha256(json.dumps([_VERSION, facts_of([tar]), what]).encode()).hexdigest()
    try:
        with contextlib.suppress(FileNotFoundError):
            if found := Listing.load((folder / digest).read_bytes()):
                return found
        listing = make()
        storage_of(folder).write(digest, listing.dump())
    except StorageError:
        raise
    except OSError as error:
        raise BuildError(f"{folder}: the listing of {tar.name} cannot be kept ({error.strerror})") from error
    return listing


def several(do: Callable[[T], Listing], items: Sequence[T], *, at_once: bool) -> Iterator[Listing]:
    """Yields the listings of all items, in their order; `at_once`: eight are worked on at a time."""
    if not at_once:
        yield from map(do, items)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(do, items)


def _int64(values: "array[int]") -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)


def _read_label(window: Window, member: Member) -> str:
    return label_text(window.read_at(member.offset, min(member.size, MAX_LABEL_BYTES)), member.size, member.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GzippedTar:
    """The `Layout` of a gzipped tar."""

    path: Place
    choice: Choice
    pixels: bool = False

    def parts(self, done: Container[str]) -> Iterator[Part]:
        with OpenedTar(self.path) as opened:
            yield from parts_of_stream(opened.window, FileFilter(self.choice.subtree), done, key="part")

    def resolve(self, rows: Rows) -> Resolved:
        wanted = FileFilter(self.choice.subtree)
        return resolve_tree(
            rows,
            classes=self.choice.classes,
            label=wanted.part_of(self.path.name),
            asked=wanted.asked,
            class_level=self.choice.class_level,
        )


def parts_of_stream(
    window: Window, wanted: FileFilter, done: Container[str], *, key: str, prefix: str = ""
) -> Iterator[Part]:
    """Cuts what is read of a tar stream into parts of about 64 MiB, named KEY-000000 and so on."""
    number, growing = 0, _Growing()
    for member in _members(window, wanted):
        if is_label(member.name):
            growing.add(prefix + member.name, b"", _read_label(window, member))
        else:
            growing.add(prefix + member.name, _read_if_image(window, member))
        if growing.bytes >= _PART_BYTES:
            if f"{key}-{number:06d}" not in done:
                yield growing.part(f"{key}-{number:06d}")
            number, growing = number + 1, _Growing()
    if growing.names and f"{key}-{number:06d}" not in done:
        yield growing.part(f"{key}-{number:06d}")


def _read_if_image(window: Window, member: Member) -> bytes:
    """Returns an image's bytes, none of what is none; a stream's first bytes cannot be looked at and read again."""
    data: list[bytes] = []

    def whole() -> bytes:
        data.append(_read_image(window, member))
        return data[0]

    if not is_wanted(member.name, member.size, whole):
        return b""
    return data[0] if data else _read_image(window, member)


def _read_image(window: Window, member: Member) -> bytes:
    if member.size:  # an empty one is found out when it is read
        check_length(member.size, member.name)
    data = window.read_at(member.offset, member.size)
    if len(data) < member.size:
        raise SourceError(f"{window.label} is truncated: it ends inside {printable(member.name)}")
    return data


class _Growing:
    """A part while it is filled."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.texts: list[str] = []
        self.payload: list[bytes] = []
        self.bytes = 0

    def add(self, name: str, data: bytes, text: str = "") -> None:
        self.names.append(name)
        self.texts.append(text)
        self.payload.append(data)
        self.bytes += len(data)

    def part(self, key: str) -> Part:
        lengths = np.fromiter(map(len, self.payload), dtype=np.int64, count=len(self.payload))
        return Part(key=key, names=self.names, labels=self.texts, lengths=lengths, payload=self.payload)


def _members(window: Window, wanted: FileFilter) -> Iterator[Member]:
    """Yields the files of a tar, named relative to the subtree."""
    for member in list_members(window):
        name = wanted.match(member.name)
        if name is not None:
            yield Member(name, member.offset, member.size)
