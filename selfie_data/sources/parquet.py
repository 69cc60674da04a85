"""Parquet files as the Hugging Face hub lays image sets out: `image` {bytes, path}, `label` an integer.

    ROOT/data/train-00000-of-00002.parquet     ROOT/train/0000.parquet     FILE.parquet

Column types and class names come from the schema's `huggingface` metadata where it is there, from names and types
otherwise. Row groups are read one at a time, in order. Reading single images of a row group in the build's shuffled
order would decode it once for each, so the images' bytes are spooled. Needs pyarrow, the extra `parquet`.
"""

import json
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import ImageSource, Json
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.file_names import is_junk, printable
from selfie_data.sources.readers.folders import below, existing
from selfie_data.sources.readers.labels import label_by_code, label_by_integer, label_by_text, unlabelled
from selfie_data.sources.readers.spool import Part, Rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource

_ROWS_AT_ONCE = 512  # of a part: 60 MB of photographs of 110 kB, and what a spool that was cut short loses
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class Columns(NamedTuple):
    """Which columns are read.

    Attributes:
        image: of bytes, or of structs with a field `bytes`.
        label: of integers or strings; None if there is none.
        names: the classes in the order of the integers; () if the schema does not say.
    """

    image: str
    label: str | None
    names: tuple[str, ...]


def open_images(kind: str, root: Path | str, options: SourceOptions) -> ImageSource:
    """Opens Parquet files; see `selfie_data.sources.open_source`."""
    paths = _find(existing(root, kind), options.split)
    columns: list[Columns] = []
    image_bytes = 0
    for path in paths:
        with _opened(path) as file:
            columns.append(_columns(file, path, options.labels))
            image_bytes += _image_bytes(file, columns[0].image)
        if columns[-1] != columns[0]:
            raise SourceError(f"{path.name} has other columns or class names than {paths[0].name}")
    chosen: dict[str, Json] = {"split": options.split, "label": columns[0].label}
    return SpooledSource.of_files(
        kind,
        paths,
        _Parquet(paths=tuple(paths), columns=columns[0], classes=options.classes),
        chosen=chosen,
        classes=options.classes,
        spool_bytes=image_bytes,
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a file; what pyarrow raises while it is open becomes one line."""
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError("the source parquet needs pyarrow: pip install 'selfie[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, NotImplementedError, OverflowError) as error:  # pyarrow's own errors are ValueErrors
        raise SourceError(f"{path.name} is no Parquet file, truncated or damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return printable(str(error).splitlines()[0][:120]) if str(error) else type(error).__name__


def _find(root: Path, split: str) -> list[Path]:
    """Returns the files of a split, sorted. It stands in their names or folders; without it, all files are `train`."""
    if not root.is_dir():
        return [root]
    files = [path for path in below(root, ".parquet") if not is_junk(path.name)]
    if not files:
        raise SourceError(f"{root} holds no .parquet files")
    by_split: dict[str | None, list[Path]] = {}
    for path in files:
        by_split.setdefault(_split_of(path.relative_to(root)), []).append(path)
    if by_split.get(split):
        return by_split[split]
    if split == "train" and set(by_split) == {None}:
        return files
    there = ", ".join(sorted(name for name in by_split if name is not None)) or "none"
    raise OptionError(f"{root} holds no Parquet files of {split}; the splits there: {there}")


def _split_of(path: Path) -> str | None:
    words = [re.split(r"[^a-z]", part.lower())[0] for part in (path.name, *reversed(path.parts[:-1]))]
    return next((split for word in words for split, names in _SPLIT_NAMES.items() if word in names), None)


def _columns(file: Any, path: Path, labels: str) -> Columns:
    schema = file.schema_arrow
    features = _features(schema.metadata or {})
    images = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in schema.names]
    images = images or [field.name for field in schema if _holds_bytes(field.type)]
    image = next((name for name in ("image", "img") if name in images), images[0] if len(images) == 1 else None)
    if image is None:
        raise SourceError(f"{path.name} has no image column, or several, none called image: {_list(images)}")
    if not _holds_bytes(schema.field(image).type):
        raise SourceError(f"{path.name}: the column {image} holds no bytes but {schema.field(image).type}")
    label = _label_column(schema, features, path, labels)
    names = features.get(label, {}).get("names") if label is not None else None
    return Columns(image, label, tuple(map(str, names)) if isinstance(names, list) else ())


def _features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Returns the hub's description of the columns, {} if there is none that can be read."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _label_column(schema: Any, features: dict[str, dict[str, Any]], path: Path, labels: str) -> str | None:
    found = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    found = [name for name in found if name in schema.names]
    found = found or [name for name in ("label", "labels", "fine_label", "coarse_label") if name in schema.names]
    if len(found) > 1:
        wanted = [name for name in found if name == f"{labels}_label"] or [name for name in found if name == "label"]
        if not wanted:
            raise SourceError(
                f"{path.name} has several label columns ({_list(found)}); one class an image is supported"
            )
        found = wanted
    if not found:
        return None
    kind = str(schema.field(found[0]).type)
    if re.match(r"(large_|fixed_size_)?list", kind):
        raise SourceError(
            f"{path.name}: the column {found[0]} holds several labels an image ({kind}); one is supported"
        )
    if not re.match(r"u?int\d+$|(large_)?string|dictionary<values=string", kind):
        raise SourceError(f"{path.name}: the column {found[0]} holds {kind}; labels are integers or class names")
    return found[0]


def _holds_bytes(kind: Any) -> bool:
    text = str(kind)
    return text in ("binary", "large_binary") or re.match(r"struct<.*\bbytes: (large_)?binary", text) is not None


def _list(names: list[str]) -> str:
    return ", ".join(map(printable, names[:5])) or "none"


def _image_bytes(file: Any, image: str) -> int:
    """Returns how many bytes the image column takes when unpacked, a little more than the images themselves."""
    total = 0
    for group in range(file.metadata.num_row_groups):
        columns = file.metadata.row_group(group)
        for number in range(columns.num_columns):
            if columns.column(number).path_in_schema.split(".")[0] == image:
                total += columns.column(number).total_uncompressed_size
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parquet:
    """The `Layout` of Parquet files."""

    paths: tuple[Path, ...]
    columns: Columns
    classes: tuple[str, ...] | None
    pixels: bool = False

    def parts(self, done: Container[str]) -> Iterator[Part]:
        for number, path in enumerate(self.paths):
            with _opened(path) as file:
                row = 0
                for group in range(file.metadata.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    keys = [f"{number:05d}-{group:06d}-{piece:06d}" for piece in range(-(-rows // _ROWS_AT_ONCE))]
                    if any(key not in done for key in keys):
                        yield from self._group(file, path, group, keys, row)
                    row += rows

    def _group(self, file: Any, path: Path, group: int, keys: list[str], row: int) -> Iterator[Part]:
        wanted = [self.columns.image, *([self.columns.label] if self.columns.label is not None else [])]
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=wanted, use_threads=False)
        for key, batch in zip(keys, batches, strict=True):
            images = _images(batch.column(self.columns.image))
            yield Part(
                key=key,
                names=[f"{path.name}/{row + position:08d}" for position in range(len(images))],
                labels=self._labels(batch),
                lengths=np.fromiter(map(len, images), dtype=np.int64, count=len(images)),
                payload=images,
            )
            row += len(images)

    def _labels(self, batch: Any) -> NDArray[np.int64] | list[str]:
        if self.columns.label is None:
            return np.full(batch.num_rows, -1, dtype=np.int64)
        values = batch.column(self.columns.label).to_pylist()
        if any(isinstance(value, str) for value in values) or "string" in str(
            batch.schema.field(self.columns.label).type
        ):
            return ["" if value is None else value for value in values]
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)

    def resolve(self, rows: Rows) -> Resolved:
        order = np.arange(len(rows.names))
        if isinstance(rows.labels, list):
            return Resolved(order, label_by_text(rows.labels, self.classes))
        codes = rows.labels.astype(np.int64)
        if self.columns.label is None:
            return Resolved(order, unlabelled(len(codes)))
        if self.columns.names:
            return Resolved(order, label_by_code(codes, self.columns.names, self.classes))
        return Resolved(order, label_by_integer(codes, classes=self.classes))


def _images(column: Any) -> list[bytes]:
    """Returns the bytes of each image, b"" for null: such a row is found out when it is read."""
    values = column.to_pylist()
    return [(value.get("bytes") if isinstance(value, dict) else value) or b"" for value in values]
