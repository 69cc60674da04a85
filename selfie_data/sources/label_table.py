"""A table of path,label (CSV or TSV, with or without a line of column names) says which images there are."""

import csv
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.sources.naming.columns import LABELS, asked_for, listed, only, spelled
from selfie_data.sources.naming.columns import split_column as find_split_column
from selfie_data.sources.naming.file_names import printable
from selfie_data.sources.naming.split_names import ALL, no_such_split, rows_left_out, same_split, split_said

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_BYTES = 1 << 30  # ImageNet's 1.3 million lines have 53 MB


class Line(NamedTuple):
    """A line of the table: its number, from 1, the image's path, its label or "" for none, its split if it says one."""

    number: int
    path: str
    label: str
    split: str | None = None


class _Columns(NamedTuple):
    """Positions of what is read of a line."""

    path: int
    label: int | None
    split: int | None
    split_name: str = ""


def read_table(
    table: Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    every: bool = False,
) -> list[Line]:
    """Returns the lines of a table.

    The first line is one of column names if its first field, or any of three fields or more, is a usual name of a path
    column, or if columns are asked for. Without it there are one or two columns: the path, and the label if there
    is one.

    Args:
        table: the file.
        path_column, label_column, split_column: names of columns, where the usual ones are not meant.
        every: lines of all splits are wanted.

    Raises:
        OptionError: a column asked for is not there, or one of several must be chosen.
        SourceError: unreadable, empty, or a path that leaves the root.
    """
    rows = _read_rows(table)
    first = [field.strip() for field in rows[0][1]]
    named = any(name is not None for name in (path_column, label_column, split_column))
    if named or any(field.lower() in PATH_COLUMNS for field in first):
        split = find_split_column(first, where=table.name, wanted=split_column, every=every)
        columns = _columns(first, table.name, path_column, label_column, split)
        rows = rows[1:]
        if not rows:
            raise SourceError(f"{table.name} holds column names and no images")
    elif len(first) > 2:
        raise SourceError(
            f"{table.name} has {len(first)} columns and no names for them: path and one label are read, called "
            f"{', '.join(PATH_COLUMNS)} and {', '.join(LABELS)}, or as --image-column and --label-column say"
        )
    else:
        columns = _Columns(0, 1 if len(first) == 2 else None, None)
    return [_line(number, row, columns, width=len(first), table=table) for number, row in rows]


def of_split(lines: list[Line], split: str, *, table: str, notices: Notices) -> list[Line]:
    """Returns the lines that are of a split; the others are noticed. Without a column `split` all are train."""
    if split == ALL:
        return lines
    if lines[0].split is None:
        if split != "train":
            raise OptionError(f"{table} has no column split, so it has no split {split}: leave --split out")
        return lines
    found = Counter(line.split or "" for line in lines)
    if not any(same_split(name, split) for name in found):
        raise OptionError(no_such_split(table, split, found))
    for line in lines:
        if not same_split(line.split or "", split):
            notices.add(rows_left_out(line.split or ""), f"{table}, line {line.number}: {printable(line.path)}")
    return [line for line in lines if same_split(line.split or "", split)]


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
        raise SourceError(f"{table.name} is no CSV or TSV in UTF-8, save it as such: {error}") from error
    if not rows:
        raise SourceError(f"{table.name} is empty")
    return rows


def _columns(
    first: list[str], table: str, path_column: str | None, label_column: str | None, split: str | None
) -> _Columns:
    paths = [name for name in spelled(first, PATH_COLUMNS) if name != label_column]
    paths = [name for name in paths if len(paths) == 1 or name.lower() != "name"]  # which may be the class's
    if path_column is not None:
        paths = [asked_for(first, path_column, option="--image-column", where=table)]
    if not paths:
        raise SourceError(f"{table} has no path column ({', '.join(PATH_COLUMNS)}): --image-column may name one")
    if len(paths) > 1:
        raise OptionError(f"{table} has several path columns ({listed(paths)}): --image-column NAME picks one")
    rest = [name for name in first if name not in (paths[0], split)]
    if label_column is not None:
        label: str | None = asked_for(first, label_column, option="--label-column", where=table)
    else:
        label = only(spelled(rest, LABELS), what="label", option="--label-column", where=table)
    if label is None and rest:
        raise OptionError(
            f"{table} has no column called {', '.join(LABELS)}: which one is the label? --label-column says it; "
            f"without any other column there are no labels"
        )
    positions = {name: first.index(name) for name in first}
    return _Columns(
        positions[paths[0]],
        None if label is None else positions[label],
        None if split is None else positions[split],
        split or "",
    )


def _line(number: int, row: list[str], columns: _Columns, *, width: int, table: Path) -> Line:
    if len(row) != width:
        raise SourceError(f"{table.name}, line {number}: {len(row)} fields where the first line has {width}")
    written = row[columns.path].strip()
    if _URL.match(written):
        raise SourceError(
            f"{table.name}, line {number}: {printable(written)!r} is a URL; a table names files below --root: fetch "
            f"the images first"
        )
    parts = written.split("/")
    name = "/".join(part for part in parts if part not in ("", "."))  # a//b and a/./b are one file
    if not name or written.startswith("/") or ".." in parts:
        raise SourceError(
            f"{table.name}, line {number}: {printable(written)!r} is no path below the root; write it as it is from "
            "--root on, without / at the start and without .."
        )
    text = "" if columns.label is None else row[columns.label]
    return Line(
        number, name, text, None if columns.split is None else split_said(columns.split_name, row[columns.split])
    )
