"""Any tree of images. Class folders give labels, one flat folder gives none; or a table of path,label says it all.

    root/cat/1.jpg, root/dog/x/2.png      labels cat and x: an image's class is the folder it lies in, see
                                          `selfie_data.sources.readers.labels.classes_of_paths`
    root/1.jpg                            no label; both may be mixed
    root/1.jpg + 1.cls                    labels in files beside the images

Images are in the order of their paths. Whether a file is an image is told by its suffix, where there is
none by its first bytes.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import ImageSource, Json
from selfie_data.sources.label_table import PATH_COLUMNS, Line, of_split, read_table
from selfie_data.sources.naming.file_names import NameTable, is_image, printable, reason_to_pass_over, suffix
from selfie_data.sources.naming.split_names import ALL
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import is_zip
from selfie_data.sources.readers.folders import FileSource, Found, existing, identity_of, read_file, walk
from selfie_data.sources.readers.image_tree import (
    MAX_LABEL_BYTES,
    FileFilter,
    is_label,
    label_text,
    reason_to_leave_out,
    refuse_mixed_splits,
    refuse_twice,
    resolve_tree,
)
from selfie_data.sources.readers.labels import Labelled, label_by_text, tell_labels
from selfie_data.sources.readers.spool import Rows
from selfie_data.sources.readers.spooled_source import fingerprint_of
from selfie_data.storage.place import Place


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens a folder; see `selfie_data.sources.open_source`."""
    if options.table is None and options.split != "train":
        raise OptionError(f"a folder has no splits: --subtree picks a part of it, got --split {options.split}")
    path = existing(root, kind)
    if not path.is_dir():
        remedy = "unpack the zip first" if is_zip(path) else "use the source tar"
        raise SourceError(f"{path} is a file: --root must name a folder, or {remedy}")
    for option, name in (
        ("--label-column", options.label_column),
        ("--image-column", options.image_column),
        ("--split-column", options.split_column),
    ):
        if name is not None and options.table is None:
            raise OptionError(f"{option} names a column of --table, got {name} without a table")
    chosen: dict[str, Json] = {
        "subtree": FileFilter(options.subtree).subtree,
        "table": None if options.table is None else options.table.name,
    }
    if options.class_level is not None:
        chosen["class_level"] = options.class_level
    if options.table is not None:
        if options.class_level is not None:
            raise OptionError("--class-level is for classes by folders; --table says each image's class: leave one out")
        return _open_table(kind, path, options.table, options, chosen)
    return open_tree(kind, path, options, chosen)


def open_tree(
    kind: str, root: Place, options: SourceOptions, chosen: dict[str, Json], *, folders: bool = True
) -> FileSource:
    """Opens all images below `root` and options.subtree.

    Args:
        chosen: options that go into the description.
        folders: take folders for classes.
    """
    wanted = FileFilter(options.subtree)
    base = root if wanted.subtree is None else root / wanted.subtree
    if not base.is_dir():
        raise SourceError(f"there is no folder {printable(wanted.subtree or '')} below {root}")
    found = walk(root, wanted)
    resolved = resolve_tree(
        _rows(base, found),
        classes=options.classes,
        label=str(base),
        folders=folders,
        asked=wanted.asked,
        class_level=options.class_level,
    )
    images = [found[index] for index in resolved.order]
    return _source(kind, base, images, resolved.labelled, chosen, options, notices=resolved.notices)


def _rows(base: Place, found: list[Found]) -> Rows:
    return Rows(
        names=[file.name for file in found],
        labels=[_read_label(base, file) for file in found],
        lengths=np.fromiter((file.size for file in found), dtype=np.int64, count=len(found)),
    )


def _read_label(base: Place, file: Found) -> str:
    if not is_label(file.name):
        return ""
    try:
        return label_text(read_file(base / file.name, file.name, limit=MAX_LABEL_BYTES), file.size, file.name)
    except ImageError as error:
        raise SourceError(str(error)) from error


def _open_table(kind: str, root: Place, table: Path, options: SourceOptions, chosen: dict[str, Json]) -> FileSource:
    wanted = FileFilter(options.subtree)
    base = root if wanted.subtree is None else root / wanted.subtree
    notices = Notices()
    every = read_table(
        table,
        path_column=options.image_column,
        label_column=options.label_column,
        split_column=options.split_column,
        every=options.split == ALL,
    )
    lines = of_split(every, options.split, table=table.name, notices=notices)
    lines = sorted(lines, key=lambda line: line.path)
    _tell_unnamed(root, wanted, {line.path for line in every}, table, notices)
    more = {"label": options.label_column, "image": options.image_column, "split_column": options.split_column}
    more["split"] = None if options.split == "train" else options.split
    chosen |= {name: value for name, value in more.items() if value is not None}
    refuse_twice([line.path for line in lines], table.name)
    if every[0].split is None and not wanted.asked:
        remedy = "a column split tells them apart"
        refuse_mixed_splits([line.path for line in lines], table.name, remedy=remedy)
    images = [_find(base, line, table) for line in lines]
    texts = [line.label for line in lines]
    labelled = label_by_text(texts, options.classes, where=lambda index: f"{table.name}, line {lines[index].number}")
    unlabelled = "images without a label in the table, where others have one"
    tell_labels([line.path for line in lines], texts, labelled, notices, unlabelled)
    facts = table.stat()
    changed = (table.name, facts.st_size, facts.st_mtime_ns)
    return _source(kind, base, images, labelled, chosen, options, changed, notices=notices)


def _tell_unnamed(root: Place, wanted: FileFilter, named: set[str], table: Path, notices: Notices) -> None:
    """Notices the files that no line of the table names, other than the table itself."""
    own = identity_of(table.stat())
    try:
        found = walk(root, wanted)
    except SourceError:  # what the table names may be readable all the same
        notices.add("folders that cannot be listed for files which the table does not name", wanted.subtree or ".")
        return
    for file in found:
        if file.name not in named and file.identity != own:
            image = is_image(file.name) or (file.size and not is_label(file.name))
            reason = "images that the table does not name" if image else reason_to_leave_out(file.name)
            notices.add(reason_to_pass_over(file.name) or reason, printable(file.name))


def _find(base: Place, line: Line, table: Place) -> Found:
    """Returns an image that the table names; one that is missing is found out, and quarantined, when it is read."""
    if not is_image(line.path) and (suffix(line.path) or not (base / line.path).is_file()):
        names = f"; a first line of column names calls the path {', '.join(PATH_COLUMNS)}" * (line.number == 1)
        raise SourceError(f"{table.name}, line {line.number}: {printable(line.path)!r} has no image's suffix{names}")
    try:
        facts = (base / line.path).stat()
    except OSError:
        return Found(line.path, 0, 0)
    identity = identity_of(facts) if isinstance(facts, os.stat_result) else 0
    return Found(line.path, facts.st_size, facts.st_mtime_ns, identity)


def _source(
    kind: str,
    base: Place,
    images: list[Found],
    labelled: Labelled,
    chosen: dict[str, Json],
    options: SourceOptions,
    *more: tuple[str, int, int],
    notices: Notices | None = None,
) -> FileSource:
    notices = notices or Notices()
    _tell_links(images, labelled, notices)
    total = sum(file.size for file in images)
    set_options = {key: value for key, value in chosen.items() if value is not None}
    return FileSource(
        kind=kind,
        description={"kind": kind, **set_options, "images": len(images), "bytes": total},
        fingerprint=fingerprint_of(kind, chosen, [*images, *more], options.classes),
        root=base.absolute(),
        names=NameTable.of(file.name for file in images),
        labelled=labelled,
        sizes=None if isinstance(base, Path) else np.array([file.size for file in images], dtype=np.int64),
        notices=notices,
    )


def _tell_links(images: list[Found], labelled: Labelled, notices: Notices) -> None:
    """Notices images that are there twice, by a link; refuses one that is of two classes so."""
    first: dict[int, int] = {}
    for index, file in enumerate(images):
        other = first.setdefault(file.identity, index) if file.identity else index
        if other == index:
            continue
        if labelled.labels[other] != labelled.labels[index]:
            raise SourceError(
                f"{printable(images[other].name)} and {printable(file.name)} are one file, by a link, and of two "
                "classes: take one out, or pick a part by --subtree"
            )
        notices.add("images that are there again, by a link to one file", printable(file.name))


def open_flat(
    kind: str, root: Place, options: SourceOptions, chosen: dict[str, Json], label: Callable[[int], Labelled]
) -> FileSource:
    """Opens all images below `root`; `label` gets their number and labels them in the order of their paths."""
    found = walk(root, FileFilter())
    resolved = resolve_tree(_rows(root, found), label=str(root), folders=False)
    images = [found[index] for index in resolved.order]
    return _source(kind, root, images, label(len(images)), chosen, options, notices=resolved.notices)
