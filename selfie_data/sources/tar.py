"""A tar of images, read in place by offset; a gzipped one is spooled. Brace lists and URLs are WebDataset sources.

Labels: `KEY.cls` files if there are any, else the images' folders (see `readers.labels.classes_of_paths`).
"""

import re
from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import ImageSource, Json
from selfie_data.sources import SourceOptions
from selfie_data.sources.readers.archives import OpenedTar, is_gzip, unpacked_bytes
from selfie_data.sources.readers.byte_ranges import Ranges, RangeSource, check_length
from selfie_data.sources.readers.checksums import check_official
from selfie_data.sources.readers.file_names import NameTable, printable, suffix
from selfie_data.sources.readers.image_tree import MAX_LABEL_BYTES, FileFilter, label_text, resolve_tree, wanted_members
from selfie_data.sources.readers.locate import existing
from selfie_data.sources.readers.spool import Part, Rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource, describe, facts_of, fingerprint_of
from selfie_data.sources.readers.tarball import Member, Window

PART_BYTES = 64 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def open_images(kind: str, root: Path | str, options: SourceOptions) -> ImageSource:
    """Opens one tar, or shards; see `selfie_data.sources.open_source`."""
    if isinstance(root, str) and (_URL.match(root) or "::" in root or ("{" in root and not Path(root).exists())):
        from selfie_data.sources import webdataset

        return webdataset.open_images(kind, root, options)
    if options.split != "train":
        raise OptionError(f"a tar has no splits: --subtree picks a part of it, got --split {options.split}")
    path = existing(root, kind)
    if path.is_dir():
        raise SourceError(f"{path} is a folder: --root must name a tar file, or use the source folder")
    check_official(path, checksum=options.checksum)
    chosen: dict[str, Json] = {"subtree": FileFilter(options.subtree).subtree}
    description = describe(kind, chosen, [path])
    fingerprint = fingerprint_of(kind, chosen, facts_of([path]), options.classes)
    if is_gzip(path):
        return SpooledSource(
            kind=kind,
            description=description,
            fingerprint=fingerprint,
            layout=GzippedTar(path=path, subtree=options.subtree, classes=options.classes),
            spool_bytes=unpacked_bytes(path),
        )
    return open_in_place(kind, [path], options, description=description, fingerprint=fingerprint)


def open_in_place(
    kind: str,
    paths: list[Path],
    options: SourceOptions,
    *,
    description: dict[str, Json],
    fingerprint: str,
    parted: bool = False,
) -> RangeSource:
    """Lists plain tars and returns a source that reads them by offset.

    Args:
        parted: the tars are shards: names begin with a shard's name, and folders are no classes.
    """
    listing = Listing()
    for number, path in enumerate(paths):
        with OpenedTar(path) as opened:
            listing.add(
                opened.window, FileFilter(options.subtree), file=number, prefix=f"{path.name}/" if parted else ""
            )
    label = paths[0].name if len(paths) == 1 else f"the set of {len(paths)} tars"
    resolved = resolve_tree(listing.rows(), classes=options.classes, label=label, folders=not parted, parted=parted)
    return RangeSource(
        kind=kind,
        description=description,
        fingerprint=fingerprint,
        ranges=listing.ranges(paths).take(resolved.order),
        labelled=resolved.labelled,
    )


class Listing:
    """Members of tars, gathered compactly: 16 bytes and a name each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.texts: list[str] = []
        self.files = array("i")
        self.offsets = array("q")
        self.lengths = array("q")

    def add(self, window: Window, wanted: FileFilter, *, file: int, start: int = 0, prefix: str = "") -> None:
        """Adds the members of one tar that `wanted` takes; `start` is where the tar begins in its file."""
        for member in wanted_members(window, wanted):
            self.texts.append(_read_label(window, member) if suffix(member.name) == ".cls" else "")
            self.names.append(prefix + member.name)
            self.files.append(file)
            self.offsets.append(start + member.offset)
            self.lengths.append(member.size)

    def rows(self) -> Rows:
        return Rows(names=self.names, labels=self.texts, lengths=_int64(self.lengths))

    def ranges(self, paths: list[Path]) -> Ranges:
        return Ranges(
            paths=tuple(path.absolute() for path in paths),
            sizes=tuple(path.stat().st_size for path in paths),
            file=np.frombuffer(self.files, dtype=np.int32) if self.files else np.empty(0, np.int32),
            offset=_int64(self.offsets),
            length=_int64(self.lengths),
            names=NameTable.of(self.names),
        )


def _int64(values: "array[int]") -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)


def _read_label(window: Window, member: Member) -> str:
    return label_text(window.read_at(member.offset, min(member.size, MAX_LABEL_BYTES)), member.size, member.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class GzippedTar:
    """See `selfie_data.sources.readers.spooled_source.Layout`."""

    path: Path
    subtree: str | None
    classes: tuple[str, ...] | None
    pixels: bool = False

    def parts(self, done: Container[str]) -> Iterator[Part]:
        with OpenedTar(self.path) as opened:
            yield from parts_of_stream(opened.window, FileFilter(self.subtree), done, key="part")

    def resolve(self, rows: Rows) -> Resolved:
        return resolve_tree(rows, classes=self.classes, label=self.path.name)


def parts_of_stream(
    window: Window, wanted: FileFilter, done: Container[str], *, key: str, prefix: str = ""
) -> Iterator[Part]:
    """Cuts what is read of a tar stream into parts of about 64 MiB, named KEY-000000 and so on."""
    number, growing = 0, _Growing()
    for member in wanted_members(window, wanted):
        if suffix(member.name) == ".cls":
            growing.add(prefix + member.name, b"", _read_label(window, member))
        else:
            growing.add(prefix + member.name, _read_image(window, member))
        if growing.bytes >= PART_BYTES:
            if f"{key}-{number:06d}" not in done:
                yield growing.part(f"{key}-{number:06d}")
            number, growing = number + 1, _Growing()
    if growing.names and f"{key}-{number:06d}" not in done:
        yield growing.part(f"{key}-{number:06d}")


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
