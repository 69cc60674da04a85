"""Which columns of a Parquet file are image, label and split, and what their values are.

The hub's description of the columns, in the schema's metadata `huggingface`, is believed first; names and types of the
columns tell the rest. What could be read in two ways is asked for.
"""

import json
import re
from typing import Any, NamedTuple

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.naming.columns import LABELS, asked_for, listed, only, spelled, split_column
from selfie_data.sources.naming.split_names import ALL, split_said
from selfie_data.sources.options import SourceOptions

_IMAGES = ("image", "img")
_PATHS = ("image", "img", "image_path", "path", "file_name", "filename", "file")
_BYTES = re.compile(r"(large_)?binary(_view)?")
_TEXTS = re.compile(r"(large_)?string(_view)?|dictionary<values=(large_)?string.*")
_INTEGERS = re.compile(r"u?int\d+")
_FRACTIONS = ("halffloat", "float", "double")

Features = dict[str, dict[str, Any]]


class Columns(NamedTuple):
    """Which columns are read; all files of a source have the same.

    Attributes:
        image: of bytes, or of structs with a field `bytes`.
        label: None if there is none.
        names: the classes in the order of the integers; () if the schema does not say.
        texts: labels are texts, else integers.
        split: says which split a row is of; None if there is none.
        split_names: the splits in the order of the integers; () if they are texts.
    """

    image: str
    label: str | None
    names: tuple[str, ...]
    texts: bool
    split: str | None
    split_names: tuple[str, ...]


def columns_of(schema: Any, where: str, options: SourceOptions) -> Columns:
    """Finds the columns of a file with the schema `schema`; `where` is its name.

    Raises:
        OptionError: several columns could be meant, or the one asked for is not there.
        SourceError: no images, or labels that are none.
    """
    features = _features(schema.metadata or {})
    split = _split(schema, where, options)
    label = _label(schema, features, where, options)
    return Columns(
        image=_image(schema, features, where, options),
        label=label,
        names=_names(features, label),
        texts=label is not None and _TEXTS.fullmatch(str(schema.field(label).type)) is not None,
        split=split,
        split_names=_names(features, split),
    )


def others(schema: Any, columns: Columns) -> list[str]:
    """Returns the columns that could have been image or label and are not read."""
    features = _features(schema.metadata or {})
    found = {*_of_type(schema, features, "Image"), *_of_type(schema, features, "ClassLabel")}
    found |= {*spelled(schema.names, LABELS), *(field.name for field in schema if _holds_bytes(field.type))}
    return sorted(found - {columns.image, columns.label, columns.split})


def split_values(column: Any, columns: Columns) -> list[str]:
    """Returns the split of each row, "" for null."""
    names, values = columns.split_names, column.to_pylist()
    if names:
        values = [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]
    return ["" if value is None else split_said(columns.split or "", str(value)) for value in values]


def _features(metadata: dict[bytes, bytes]) -> Features:
    """Returns the hub's description of the columns, {} if there is none that can be read."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _of_type(schema: Any, features: Features, kind: str) -> list[str]:
    return [name for name, feature in features.items() if feature.get("_type") == kind and name in schema.names]


def _names(features: Features, column: str | None) -> tuple[str, ...]:
    names = features.get(column, {}).get("names") if column is not None else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _split(schema: Any, where: str, options: SourceOptions) -> str | None:
    return split_column(schema.names, where=where, wanted=options.split_column, every=options.split == ALL)


def _image(schema: Any, features: Features, where: str, options: SourceOptions) -> str:
    found = _of_type(schema, features, "Image")
    found = found or [field.name for field in schema if _holds_bytes(field.type)]
    if options.image_column is not None:
        found = [asked_for(schema.names, options.image_column, option="--image-column", where=where)]
    elif len(found) > 1:
        found = spelled(found, _IMAGES) or found
    if len(found) > 1:
        raise OptionError(
            f"{where} has no image column, or several, none called image: {listed(found)}; --image-column picks one"
        )
    if not found:
        paths = [name for name in spelled(schema.names, _PATHS) if _TEXTS.fullmatch(str(schema.field(name).type))]
        hint = f"; {listed(paths)} holds paths: the source folder reads the files, by --table" if paths else ""
        raise SourceError(f"{where} has no image column, of bytes; its columns: {listed(schema.names)}{hint}")
    image = found[0]
    if not _holds_bytes(schema.field(image).type):
        raise SourceError(f"{where}: the column {image} holds no bytes but {schema.field(image).type}")
    return image


def _holds_bytes(kind: Any) -> bool:
    """Whether a column of this type holds images: bytes, or structs with a field `bytes` of their own."""
    if _BYTES.fullmatch(str(kind)):
        return True
    fields = [kind.field(number) for number in range(kind.num_fields)] if str(kind).startswith("struct<") else []
    return any(field.name == "bytes" and _BYTES.fullmatch(str(field.type)) for field in fields)


def _label(schema: Any, features: Features, where: str, options: SourceOptions) -> str | None:
    if options.label_column is not None:
        found = [asked_for(schema.names, options.label_column, option="--label-column", where=where)]
    else:
        split = _split(schema, where, options)
        found = [name for name in _of_type(schema, features, "ClassLabel") if name != split]
        found = found or spelled(schema.names, LABELS)
        found = [name for name in found if len(found) > 1 and name == f"{options.labels}_label"] or found
    label = only(found, what="label", option="--label-column", where=where)
    if label is None:
        return None
    kind = str(schema.field(label).type)
    if re.match(r"(large_|fixed_size_)?list", kind):
        raise SourceError(f"{where}: the column {label} holds several labels an image ({kind}); one is supported")
    if not (_INTEGERS.fullmatch(kind) or _TEXTS.fullmatch(kind) or kind == "null"):
        remedy = "astype('Int64') makes integers of what pandas wrote so where one is missing"
        remedy = remedy if kind in _FRACTIONS else "--label-column may name another column"
        raise SourceError(f"{where}: the column {label} holds {kind}; labels are integers or class names: {remedy}")
    return label
