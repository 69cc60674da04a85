"""Downsampled ImageNet (8, 16, 32 or 64 px): pickles or `.npz`, in a folder or an archive (tar, gzipped tar, zip).

    train_data_batch_1 … 10, val_data    (or .npz):  data uint8 [n, 3·S·S], labels from 1 to 1000, mean (not used)

The files name no classes, and their numbering is neither ILSVRC's nor that of the sorted WNIDs. The classes are
therefore called by their numbers, "0001" … "1000": class index = label - 1 where all labels occur. A part that lacks
some labels needs the class list of the whole, as every source does.
Source: Chrabaszcz, Loshchilov, Hutter, "A Downsampled Variant of ImageNet as an Alternative to the CIFAR datasets",
arXiv 1707.08819.
"""

import re
import zipfile
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import ImageSource, Json
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import Entry, list_entries, tell_others, unpacked_bytes
from selfie_data.sources.readers.checksums import check_official
from selfie_data.sources.readers.folders import layout_root
from selfie_data.sources.readers.labels import label_by_integer
from selfie_data.sources.readers.pixel_rows import (
    integer_labels,
    interleave,
    interleaved_pieces,
    pixel_part,
    read_batch,
    side_of,
)
from selfie_data.sources.readers.spool import Part, Rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource
from selfie_data.storage.place import Place, entries

_BATCHES = {
    "train": re.compile(r"train_data_batch_(\d+)(\.npz)?"),
    "val": re.compile(r"val_data()(\.npz)?"),
}
_ARCHIVE = re.compile(r"imagenet\d+.*\.(tar|tar\.gz|tgz|zip)", re.IGNORECASE)
_TRAIN_BATCHES = tuple(f"train_data_batch_{number:02d}" for number in range(1, 11))
_CLASS_DIGITS = 4  # of a class name: "0001"
_DIGITS = 6  # of an image's number in its batch: "train_data_batch_01/000017"
_PIECE_BYTES = 12 << 20  # of pixels that are unpacked and turned at once
# What zipfile and numpy raise for damaged files.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, NotImplementedError)


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens downsampled ImageNet; see `selfie_data.sources.open_source`."""
    if options.split == "test":
        raise OptionError("downsampled ImageNet has train and val only, got --split test")
    batch = _BATCHES[options.split]
    path = layout_root(
        root,
        kind,
        wanted=lambda name: batch.fullmatch(name) is not None,
        archives=lambda name: _is_archive(name, options.split),
    )
    files = [path] if path.is_file() else [file for file in entries(path) if batch.fullmatch(file.name)]
    for file in files:
        check_official(file, checksum=options.checksum)
    chosen: dict[str, Json] = {"split": options.split}
    return SpooledSource.of_files(
        kind,
        files,
        _Downsampled(path=path, split=options.split, classes=options.classes),
        chosen=chosen,
        classes=options.classes,
        spool_bytes=sum(unpacked_bytes(file) for file in files),
        notices=tell_others(path, lambda name: any(each.fullmatch(name) for each in _BATCHES.values())),
    )


def _is_archive(name: str, split: str) -> bool:
    """Archives that name the split, or no split at all."""
    other = "val" if split == "train" else "train"
    return _ARCHIVE.fullmatch(name) is not None and other not in name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Downsampled:
    """The `Layout` of downsampled ImageNet."""

    path: Place
    split: str
    classes: tuple[str, ...] | None
    pixels: bool = True

    def parts(self, done: Container[str]) -> Iterator[Part]:
        batch = _BATCHES[self.split]
        keys = set()
        for entry in list_entries(self.path, lambda name: batch.fullmatch(name) is not None):
            match = batch.fullmatch(entry.name.rpartition("/")[2])
            assert match is not None
            key = f"train_data_batch_{int(match[1]):02d}" if match[1] else "val_data"
            if key in keys:
                raise SourceError(f"{self.path.name} holds {match[0]} as pickle and as npz; --root must name one form")
            keys.add(key)
            if key not in done:
                yield _from_npz(entry, key) if match[2] else _from_pickle(entry, key)
        if not keys:
            raise SourceError(f"{self.path.name} holds no {self.split} batch of downsampled ImageNet")

    def resolve(self, rows: Rows) -> Resolved:
        labelled = label_by_integer(np.asarray(rows.labels, dtype=np.int64), width=_CLASS_DIGITS, classes=self.classes)
        notices = Notices()
        there = {name.rpartition("/")[0] for name in rows.names}
        for batch in _TRAIN_BATCHES if self.split == "train" else ():
            if batch not in there:
                notices.add("batches of the official data that are not there", batch)
        return Resolved(np.arange(len(rows.names)), labelled, notices)


def _from_pickle(entry: Entry, key: str) -> Part:
    rows, labels = read_batch(entry.stream, entry.size, column="labels", label=key)
    return _part(key, labels, rows.shape[1], interleaved_pieces(rows))


def _from_npz(entry: Entry, key: str) -> Part:
    """Reads an npz, compressed or not, without Python objects; its pixels are never held as a whole."""
    file = entry.path if entry.path is not None else BytesIO(entry.stream.read())
    try:
        archive = zipfile.ZipFile(file)
        with archive.open("labels.npy") as member:
            labels = integer_labels(npy.read_array(member, allow_pickle=False), None, label=key)
        with archive.open("data.npy") as member:
            shape = _header(member, key)
    except _DAMAGED as error:
        raise SourceError(f"{key} is a damaged npz: {error}") from error
    if shape[0] != len(labels):
        raise SourceError(f"{key}: {len(labels)} labels for {shape[0]} images")
    return _part(key, labels, shape[1], _npz_pieces(archive, key))


def _header(member: IO[bytes], key: str) -> tuple[int, int]:
    """Reads the head of an npy file; SourceError unless it is uint8 [n, 3·S·S] in C order."""
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if len(shape) != 2 or dtype != np.uint8 or fortran:
        raise SourceError(f"{key}: data must be uint8 [images, 3·S·S] in C order, got {dtype} {list(shape)}")
    side_of(shape[1], label=key)
    return shape[0], shape[1]


def _npz_pieces(archive: zipfile.ZipFile, key: str) -> Iterator[NDArray[np.uint8]]:
    try:
        with archive.open("data.npy") as member:
            count, row_bytes = _header(member, key)
            step = max(1, _PIECE_BYTES // row_bytes)
            for start in range(0, count, step):
                wanted = min(step, count - start) * row_bytes
                data = member.read(wanted)
                if len(data) < wanted:
                    raise SourceError(f"{key} is truncated")
                yield interleave(np.frombuffer(data, dtype=np.uint8).reshape(-1, row_bytes))
    except _DAMAGED as error:
        raise SourceError(f"{key} is a damaged npz: {error}") from error


def _part(key: str, labels: NDArray[np.int64], row_bytes: int, payload: Iterator[NDArray[np.uint8]]) -> Part:
    if labels.size and labels.min() < 1:
        raise SourceError(f"{key}: labels count from 1, got {int(labels.min())}")
    return pixel_part(key, labels, row_bytes, payload, digits=_DIGITS)
