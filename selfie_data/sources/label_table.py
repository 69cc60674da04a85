"""A table of path,label (CSV or TSV, with or without a line of column names) says which images there are."""

import csv
from pathlib import Path
from typing import NamedTuple

from selfie_data.errors import SourceError
from selfie_data.sources.readers.file_names import printable

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "y")
_MAX_BYTES = 1 << 30  # ImageNet's 1.3 million lines have 53 MB


class Line(NamedTuple):
    """A line of the table: its number, from 1, the image's path, its label or "" for none."""

    number: int
    path: str
    label: str


def read_table(table: Path) -> list[Line]:
    """Returns the lines of a table.

    The first line is one of column names if its first field, or any of three fields or more, is a usual name of a path
    column. Without it there are one or two columns: the path, and the label if there is one.

    Raises:
        SourceError: unreadable, empty, several label columns, or a path that leaves the root.
    """
    rows = _read_rows(table)
    first = [field.strip().lower() for field in rows[0][1]]
    if any(field in _PATH_COLUMNS for field in first):
        path, label = _columns(first, table)
        rows = rows[1:]
        if not rows:
            raise SourceError(f"{table.name} holds column names and no images")
    elif len(first) > 2:
        raise SourceError(f"{table.name} has {len(first)} columns and no names for them: path and one label are read")
    else:
        path, label = 0, 1 if len(first) == 2 else None
    return [_line(number, row, path, label, width=len(first), table=table) for number, row in rows]


def _read_rows(table: Path) -> list[tuple[int, list[str]]]:
    try:
        if table.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{table.name} has more than {_MAX_BYTES} bytes: it is no table of paths and labels")
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = "\t" if "\t" in head else ";" if ";" in head and "," not in head else ","
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except OSError as error:
        raise SourceError(f"cannot read the table {table}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{table.name} is no CSV or TSV in UTF-8: {error}") from error
    if not rows:
        raise SourceError(f"{table.name} is empty")
    return rows


def _columns(first: list[str], table: Path) -> tuple[int, int | None]:
    path = next(position for position, field in enumerate(first) if field in _PATH_COLUMNS)
    labels = [position for position, field in enumerate(first) if field in _LABEL_COLUMNS]
    if len(labels) > 1:
        raise SourceError(f"{table.name} has several label columns; one class an image is supported")
    if labels:
        return path, labels[0]
    if len(first) == 2:
        return path, 1 - path
    if len(first) == 1:
        return path, None
    raise SourceError(f"{table.name} has no column called {', '.join(_LABEL_COLUMNS[:3])}: which one is the label?")


def _line(number: int, row: list[str], path: int, label: int | None, *, width: int, table: Path) -> Line:
    if len(row) != width:
        raise SourceError(f"{table.name}, line {number}: {len(row)} fields where the first line has {width}")
    name = row[path].strip().removeprefix("./")
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts:
        raise SourceError(f"{table.name}, line {number}: {printable(name)!r} is no path below the root")
    text = "" if label is None else row[label].strip()
    return Line(number, name, text)
