"""Parquet files as the Hugging Face hub lays image sets out: `image` {bytes, path}, `label` an integer.

    ROOT/data/train-00000-of-00002.parquet     ROOT/train/0000.parquet     FILE.parquet

Which files are the split is said in `naming/data_files.py`, which columns are read in `parquet_columns.py`; a column
`split` says which rows. Row groups are read one at a time, in order. Reading single images of a row group in the
build's shuffled order would decode it once for each, so the images' bytes are spooled; those of a bucket are built by
blocks of row groups (`parquet_groups.py`), and only what a plan without blocks needs is spooled. Needs pyarrow, the
extra `parquet`.
"""

from collections import Counter
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import Blocks, ImageSource, Json
from selfie_data.sources.naming.data_files import choose_files, hidden, missing_parts
from selfie_data.sources.naming.file_names import NameTable, printable, reason_to_pass_over, suffix
from selfie_data.sources.naming.split_names import (
    ALL,
    canonical,
    named_split,
    no_such_split,
    refuse_other_split,
    rows_left_out,
    same_split,
    splits_of,
)
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.parquet_columns import Columns, columns_of, others, split_values
from selfie_data.sources.parquet_groups import Group, RowGroups, images_of, open_file
from selfie_data.sources.readers.folders import below, existing
from selfie_data.sources.readers.image_tree import reason_to_leave_out
from selfie_data.sources.readers.labels import (
    Labelled,
    label_by_code,
    label_by_integer,
    label_by_text,
    tell_labels,
    unlabelled,
)
from selfie_data.sources.readers.spool import Part, Rows, join_rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource
from selfie_data.storage.place import Place, name_below

_MAX_LABEL = (1 << 63) - 1
_FILES_AT_ONCE = 16  # of a bucket, whose labels are read
_ROWS_AT_ONCE = 512  # of a part: 60 MB of photographs of 110 kB, and what a spool that was cut short loses


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens Parquet files; see `selfie_data.sources.open_source`."""
    notices = Notices()
    paths = _find(existing(root, kind), options, notices)
    columns, image_bytes = _look(paths, options, notices)
    chosen: dict[str, Json] = {"split": options.split, "label": columns.label}
    more = {"config": options.config, "image": options.image_column, "split_column": columns.split}
    chosen |= {name: value for name, value in more.items() if value is not None}
    source = SpooledSource if isinstance(paths[0], Path) else _RemoteParquet
    return source.of_files(
        kind,
        paths,
        _Parquet(paths=tuple(paths), columns=columns, split=options.split, classes=options.classes),
        chosen=chosen,
        classes=options.classes,
        spool_bytes=image_bytes,
        notices=notices,
    )


def _find(root: Place, options: SourceOptions, notices: Notices) -> list[Place]:
    """Returns the files of the split, sorted."""
    if not root.is_dir():
        if options.config is not None:
            raise OptionError(f"--config is for a folder of files, got it for the file {root.name}")
        if not _has_split_column(root, options):
            refuse_other_split(root.name, options.split)
        return [root]
    files = []
    for path in below(root):
        name = name_below(path, root)
        if reason := reason_to_pass_over(name) or hidden(name):
            notices.add(reason, printable(name))
        elif suffix(name) == ".parquet":
            files.append(name)
        elif name != "README.md":  # which is read, for its configurations
            notices.add(reason_to_leave_out(name), printable(name))
    if not files:
        told = "".join(f"; {notice.text}" for notice in notices.summary()[:3])
        raise SourceError(f"{root} holds no .parquet files{told}")
    own = None if (root / "README.md").exists() else named_split(root.absolute().name)
    chosen = choose_files(
        root,
        files,
        split=options.split,
        config=options.config,
        rows_tell=lambda name: own == canonical(options.split) or _has_split_column(root / name, options),
    )
    paths = [root / name for name in chosen.used]
    if own and not any(map(splits_of, files)) and not _has_split_column(paths[0], options):
        refuse_other_split(root.absolute().name, options.split)
    for name, why in chosen.left_out.items():
        notices.add(why, printable(name))
    for name in missing_parts(chosen.used):
        notices.add("files that are missing by the numbers of the others", printable(name))
    return paths


def _has_split_column(path: Place, options: SourceOptions) -> bool:
    with open_file(path) as file:
        return columns_of(file.schema_arrow, path.name, options).split is not None


def _look(paths: list[Place], options: SourceOptions, notices: Notices) -> tuple[Columns, int]:
    """Returns the columns of all files, and about how many bytes their images take."""
    first: Columns | None = None
    image_bytes = 0
    found: Counter[str] = Counter()
    for path in paths:
        with open_file(path) as file:
            columns = columns_of(file.schema_arrow, path.name, options)
            first = first or columns
            _check_alike(columns, first, path.name, paths[0].name)
            image_bytes += _image_bytes(file, columns.image)
            if columns.label is None:
                notices.add("files without a label column (--label-column may name one)", printable(path.name))
            for name in others(file.schema_arrow, columns):
                notices.add("columns of images or labels that are not read", printable(f"{path.name}: {name}"))
            if columns.split is not None and options.split != ALL:
                found += _count_rows(file, path.name, columns, options.split, notices)
    assert first is not None
    if found and not any(same_split(name, options.split) for name in found):
        raise OptionError(no_such_split(paths[0].name, options.split, found))
    return (first._replace(split=None) if options.split == ALL else first), image_bytes


def _check_alike(columns: Columns, first: Columns, name: str, first_name: str) -> None:
    if columns.label == first.label and columns.texts != first.texts:
        kinds = ["texts" if found.texts else "numbers" for found in (columns, first)]
        raise SourceError(
            f"the labels of {name} are {kinds[0]}, those of {first_name} {kinds[1]}: the column {columns.label} must "
            f"be of one type; --label-column may name another"
        )
    for what, option in (("image", "--image-column"), ("label", "--label-column"), ("split", "--split-column")):
        here, there = getattr(columns, what), getattr(first, what)
        if here != there:
            raise SourceError(
                f"the {what} column of {name} is {printable(here or 'missing')}, that of {first_name} "
                f"{printable(there or 'missing')}: the files of a split have the same columns; {option} may name one "
                f"that all of them have"
            )
    if columns != first:
        raise SourceError(
            f"{name} has other class names than {first_name}: the files of a split have the same; --config or --root "
            f"may pick those that belong together"
        )


def _count_rows(file: Any, name: str, columns: Columns, split: str, notices: Notices) -> Counter[str]:
    """Returns how many rows there are of each split; what is of another one is noticed."""
    found: Counter[str] = Counter()
    for batch in file.iter_batches(columns=[columns.split], use_threads=False):
        row = found.total()
        values = split_values(batch.column(0), columns)
        for position, value in enumerate(values):
            if not same_split(value, split):
                notices.add(rows_left_out(value), f"{name}/{row + position:08d}")
        found.update(values)
    return found


def _image_bytes(file: Any, image: str) -> int:
    """Returns how many bytes the image column takes when unpacked, a little more than the images themselves."""
    total = 0
    for group in range(file.metadata.num_row_groups):
        total += column_bytes(file.metadata.row_group(group), image)
    return total


def column_bytes(group: Any, name: str, *, packed: bool = False) -> int:
    """Returns how many bytes a column of a row group takes, unpacked or as it is stored."""
    parts = [group.column(number) for number in range(group.num_columns)]
    parts = [part for part in parts if part.path_in_schema.split(".")[0] == name]
    return sum(part.total_compressed_size if packed else part.total_uncompressed_size for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RemoteParquet(SpooledSource):
    """Files of a bucket: a source by row groups for a plan by blocks."""

    far = True

    def in_blocks(self, block_bytes: int) -> tuple[RowGroups, Blocks]:
        """See `source.BlockSource`."""
        layout = self.layout
        assert isinstance(layout, _Parquet)
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            found = [each for file in pool.map(layout.groups, range(len(layout.paths))) for each in file]
        found = [(group, kept, rows) for group, kept, rows in found if kept]
        rows = join_rows([rows for _, _, rows in found])
        resolved = layout.resolve(self.checked(rows))
        source = RowGroups(
            kind=self.kind,
            description=self.description,
            fingerprint=self.fingerprint,
            paths=layout.paths,
            sizes=tuple(path.stat().st_size for path in layout.paths),
            groups=tuple(group for group, _, _ in found),
            group=np.repeat(np.arange(len(found), dtype=np.int32), [len(kept) for _, kept, _ in found]),
            row=np.array([row for _, kept, _ in found for row in kept], np.int32),
            names=NameTable.of(rows.names),
            labelled=resolved.labelled,
            image=layout.columns.image,
            empty=resolved.empty,
            notices=self.all_notices(resolved),
        )
        return source, source.blocks(block_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parquet:
    """The `Layout` of Parquet files."""

    paths: tuple[Place, ...]
    columns: Columns
    split: str
    classes: tuple[str, ...] | None
    pixels: bool = False

    def parts(self, done: Container[str]) -> Iterator[Part]:
        for number, path in enumerate(self.paths):
            with open_file(path) as file:
                row = 0
                for group in range(file.metadata.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    keys = [f"{number:05d}-{group:06d}-{piece:06d}" for piece in range(-(-rows // _ROWS_AT_ONCE))]
                    if any(key not in done for key in keys):
                        yield from self._group(file, path, group, keys, row)
                    row += rows

    def _group(self, file: Any, path: Place, group: int, keys: list[str], row: int) -> Iterator[Part]:
        wanted = [name for name in (self.columns.image, self.columns.label, self.columns.split) if name is not None]
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=wanted, use_threads=False)
        for key, batch in zip(keys, batches, strict=True):
            kept = self._rows_of_split(batch)
            every = images_of(batch.column(self.columns.image))
            images = [every[position] for position in kept]
            yield Part(
                key=key,
                names=[f"{path.name}/{row + position:08d}" for position in kept],
                labels=self._labels(batch, kept),
                lengths=np.fromiter(map(len, images), dtype=np.int64, count=len(images)),
                payload=images,
            )
            row += len(every)

    def _rows_of_split(self, batch: Any) -> list[int]:
        if self.columns.split is None:
            return list(range(batch.num_rows))
        values = split_values(batch.column(self.columns.split), self.columns)
        return [position for position, value in enumerate(values) if same_split(value, self.split)]

    def _labels(self, batch: Any, kept: list[int]) -> NDArray[np.int64] | list[str]:
        if self.columns.label is None:
            return np.full(len(kept), -1, dtype=np.int64)
        values = batch.column(self.columns.label).to_pylist()
        if self.columns.texts:
            return ["" if values[position] is None else values[position] for position in kept]
        codes = [-1 if values[position] is None else values[position] for position in kept]
        if max(codes, default=0) > _MAX_LABEL:
            raise SourceError(f"a label is {max(codes)}; labels are integers up to {_MAX_LABEL}")
        return np.array(codes, dtype=np.int64)

    def groups(self, number: int) -> list[tuple[Group, list[int], Rows]]:
        """Returns the row groups of a file, which of their rows are used, and these without images: `lengths` are 1."""
        found, row = [], 0
        path = self.paths[number]
        wanted = [name for name in (self.columns.label, self.columns.split) if name is not None]
        with open_file(path) as file:
            for group in range(file.metadata.num_row_groups):
                facts = file.metadata.row_group(group)
                table = file.read_row_group(group, columns=wanted, use_threads=False) if wanted else facts
                kept = self._rows_of_split(table)
                rows = Rows(
                    names=[f"{path.name}/{row + position:08d}" for position in kept],
                    labels=self._labels(table, kept),
                    lengths=np.ones(len(kept), np.int64),
                )
                stored = column_bytes(facts, self.columns.image, packed=True)
                found.append((Group(number, group, stored), kept, rows))
                row += facts.num_rows
        return found

    def resolve(self, rows: Rows) -> Resolved:
        if not rows.lengths.any():
            raise SourceError(
                f"no row of the column {self.columns.image} holds an image's bytes: where paths are stored only, build "
                f"from the files they name, by the source folder with --table"
            )
        notices = Notices()
        labelled = self._labelled(rows)
        if self.columns.label is not None:
            texts = rows.labels if isinstance(rows.labels, list) else [""] * len(rows.names)
            reason = f"rows without a label in the column {printable(self.columns.label)}: null, empty or below zero"
            tell_labels(rows.names, texts, labelled, notices, reason)
        empty = "holds no image's bytes: null, or only a path"
        return Resolved(np.arange(len(rows.names)), labelled, notices, empty)

    def _labelled(self, rows: Rows) -> Labelled:
        if isinstance(rows.labels, list):
            return label_by_text(rows.labels, self.classes, where=rows.names.__getitem__)
        codes = rows.labels.astype(np.int64)
        if self.columns.label is None:
            return unlabelled(len(codes))
        if self.columns.names:
            return label_by_code(codes, self.columns.names, self.classes, where=rows.names.__getitem__)
        return label_by_integer(codes, classes=self.classes)
