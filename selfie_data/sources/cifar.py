"""CIFAR-10 and CIFAR-100: the official archives, python and binary versions, packed (`.tar.gz`, `.tar`) or unpacked.

    python    data_batch_1 … 5, test_batch, batches.meta           train, test, meta
    binary    data_batch_1.bin … 5, test_batch.bin,                train.bin, test.bin,
              batches.meta.txt: label, 3072 bytes a record         {fine,coarse}_label_names.txt: coarse, fine, 3072

Images are in the order of the batches' names. The binary version needs no pickle. Class index = position in the
sorted class names, which for CIFAR-10 and CIFAR-100 equals the official numbering (mapped by name all the same).
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and its download page.
"""

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import ImageSource, Json
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import Entry, list_entries, tell_others, unpacked_bytes
from selfie_data.sources.readers.checksums import check_official
from selfie_data.sources.readers.folders import layout_root
from selfie_data.sources.readers.labels import label_by_code
from selfie_data.sources.readers.pickles import load_dict, text
from selfie_data.sources.readers.pixel_rows import interleaved_pieces, pixel_part, read_batch
from selfie_data.sources.readers.spool import Part, Rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource
from selfie_data.storage.place import Place, entries

_ROW = 3072  # bytes of an image: 3 planes of 32 x 32
_DIGITS = 5  # of an image's number in its batch: "data_batch_1/00017"
_RECORDS_AT_ONCE = 4096  # 12 MB: what is read besides the batch itself
_MAX_META = 1 << 20  # bytes; the official lists of class names have less than 2 kB
_OFFICIAL = {
    ("cifar10", "train"): tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train",),
    ("cifar100", "test"): ("test",),
}
_ARCHIVES = {"cifar10": "cifar-10-*", "cifar100": "cifar-100-*"}
_BATCHES = {
    ("cifar10", "train"): re.compile(r"data_batch_\d+(\.bin)?"),
    ("cifar10", "test"): re.compile(r"test_batch(\.bin)?"),
    ("cifar100", "train"): re.compile(r"train(\.bin)?"),
    ("cifar100", "test"): re.compile(r"test(\.bin)?"),
}
_BESIDE = ("readme.html", "file.txt~")  # in the official archives
_META = {
    "cifar10": {"batches.meta", "batches.meta.txt"},
    "cifar100": {"meta", "fine_label_names.txt", "coarse_label_names.txt"},
}


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens `kind` = cifar10 or cifar100; see `selfie_data.sources.open_source`."""
    if options.split == "val":
        raise OptionError(
            f"{kind} has train and test only, got --split val; `selfie-data split` takes a validation part out of train"
        )
    labels = options.labels if kind == "cifar100" else "fine"
    batch = _BATCHES[kind, options.split]
    path = layout_root(
        root, kind, wanted=lambda name: batch.fullmatch(name) is not None, archives=_is_archive(_ARCHIVES[kind])
    )
    files = [path] if path.is_file() else [file for file in entries(path) if _belongs(file.name, kind, batch)]
    if path.is_file():
        check_official(path, checksum=options.checksum)
    names = _class_names(path, kind, labels)
    batches = [pattern for (other, _), pattern in _BATCHES.items() if other == kind]
    chosen: dict[str, Json] = {"split": options.split, "labels": labels if kind == "cifar100" else None}
    return SpooledSource.of_files(
        kind,
        files,
        _Cifar(path=path, kind=kind, split=options.split, labels=labels, names=names, classes=options.classes),
        chosen=chosen,
        classes=options.classes,
        spool_bytes=sum(unpacked_bytes(file) for file in files),
        notices=tell_others(path, lambda name: name in _BESIDE or any(_belongs(name, kind, each) for each in batches)),
    )


def _is_archive(pattern: str) -> Callable[[str], bool]:
    return lambda name: fnmatch(name, pattern) and name.endswith((".tar.gz", ".tgz", ".tar"))


def _belongs(name: str, kind: str, batch: re.Pattern[str]) -> bool:
    return name in _META[kind] or batch.fullmatch(name) is not None


def _class_names(path: Place, kind: str, labels: str) -> list[str]:
    """Returns the class names in the order of the official numbering."""
    key = "label_names" if kind == "cifar10" else f"{labels}_label_names"
    text_file = "batches.meta.txt" if kind == "cifar10" else f"{key}.txt"
    for entry in list_entries(path, lambda name: name in ({"meta", "batches.meta"} & _META[kind]) | {text_file}):
        where = f"{path.name}: {entry.name.rpartition('/')[2]}" if path.is_file() else entry.name
        if entry.size > _MAX_META:
            raise SourceError(f"{where} is no list of class names: it has {entry.size} bytes")
        if entry.name.endswith(".txt"):
            names = entry.stream.read().decode("utf-8", "replace").split()
        else:
            listed = load_dict(entry.stream, entry.size, label=where).get(key)
            names = [text(name) for name in listed] if isinstance(listed, list) else []
        if not names:
            raise SourceError(f"{where} holds no class names")
        return names
    raise SourceError(f"{path.name} holds no {' or '.join(sorted(_META[kind]))}: the class names are missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cifar:
    """The `Layout` of CIFAR. `names` are the classes in the order of the official numbers."""

    path: Place
    kind: str
    split: str
    labels: str
    names: list[str]
    classes: tuple[str, ...] | None
    pixels: bool = True

    def parts(self, done: Container[str]) -> Iterator[Part]:
        batch = _BATCHES[self.kind, self.split]
        found = []
        for entry in list_entries(self.path, lambda name: batch.fullmatch(name) is not None):
            key = entry.name.rpartition("/")[2]
            found.append(key.removesuffix(".bin"))
            if key not in done:
                yield self._binary(entry, key) if key.endswith(".bin") else self._python(entry, key)
        self._check_batches(found)

    def _check_batches(self, found: list[str]) -> None:
        if not found:
            raise SourceError(f"{self.path.name} holds no {self.split} batch of {self.kind}")
        if len(set(found)) < len(found):
            raise SourceError(f"{self.path.name} holds python and binary batches; --root must name one version")

    def _python(self, entry: Entry, key: str) -> Part:
        column = "labels" if self.kind == "cifar10" else f"{self.labels}_labels"
        rows, codes = read_batch(entry.stream, entry.size, column=column, label=key)
        if rows.shape[1] != _ROW:
            raise SourceError(f"{key}: images must be 32x32, got rows of {rows.shape[1]} bytes")
        return pixel_part(key, codes, _ROW, interleaved_pieces(rows), digits=_DIGITS)

    def _binary(self, entry: Entry, key: str) -> Part:
        label_bytes = 1 if self.kind == "cifar10" else 2
        record = label_bytes + _ROW
        if entry.size % record or not entry.size:
            raise SourceError(f"{key} is truncated: {entry.size} bytes are no whole number of {record}-byte records")
        records = np.empty((entry.size // record, record), dtype=np.uint8)
        _fill(entry.stream, records, key)
        column = 0 if self.kind == "cifar10" or self.labels == "coarse" else 1
        codes = records[:, column].astype(np.int64)
        return pixel_part(key, codes, _ROW, interleaved_pieces(records[:, label_bytes:]), digits=_DIGITS)

    def resolve(self, rows: Rows) -> Resolved:
        labelled = label_by_code(np.asarray(rows.labels, dtype=np.int64), self.names, self.classes)
        notices = Notices()
        there = {name.rpartition("/")[0].removesuffix(".bin") for name in rows.names}
        for batch in _OFFICIAL[self.kind, self.split]:
            if batch not in there:
                notices.add("batches of the official data that are not there", batch)
        for batch in sorted(there - set(_OFFICIAL[self.kind, self.split])):
            notices.add("batches that the official data has not, used like the others", batch)
        return Resolved(np.arange(len(rows.names)), labelled, notices)


def _fill(stream: BinaryIO, records: NDArray[np.uint8], label: str) -> None:
    for start in range(0, len(records), _RECORDS_AT_ONCE):
        piece = records[start : start + _RECORDS_AT_ONCE]
        data = stream.read(piece.nbytes)
        if len(data) < piece.nbytes:
            raise SourceError(f"{label} is truncated")
        piece[:] = np.frombuffer(data, dtype=np.uint8).reshape(piece.shape)
