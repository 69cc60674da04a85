"""What the files of a folder, a tar or a set of shards mean: which are images, in which order, with which labels.

Labels come from `KEY.cls` files beside the images where there are any (the WebDataset convention), from folders
otherwise. A key is a path up to the first dot of its file name. Every file becomes a row; what is not an image or its
label ends among the notices, by reason.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from selfie_data.errors import OptionError, SourceError
from selfie_data.images.formats import format_of
from selfie_data.notices import Notices
from selfie_data.sources.naming.file_names import is_image, printable, reason_to_pass_over, suffix
from selfie_data.sources.naming.split_names import sides_of
from selfie_data.sources.readers.byte_ranges import MAX_IMAGE_BYTES
from selfie_data.sources.readers.labels import (
    classes_of_paths,
    label_by_name,
    label_by_text,
    tell_labels,
    unlabelled,
)
from selfie_data.sources.readers.spool import Rows
from selfie_data.sources.readers.spooled_source import Resolved

MAX_LABEL_BYTES = 4096  # of a `.cls` file
_USUAL_SUFFIX = re.compile(r"\.[a-z][a-z0-9_]{0,11}")


@dataclass(slots=True)
class FileFilter:
    """Chooses what of a tree is looked at: what lies below `subtree`.

    `asked`: it ends in ".", by which all that lies there is one set, whatever it is called.
    """

    subtree: str | None = None
    asked: bool = False

    def __post_init__(self) -> None:
        if self.subtree is not None:
            self.asked = self.subtree.rstrip("/").split("/")[-1] == "."
            parts = [part for part in self.subtree.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise OptionError(f"a subtree is a path below the root, got {self.subtree}")
            self.subtree = "/".join(parts) or None

    def part_of(self, label: str) -> str:
        """Returns what errors call the part of a source that is looked at."""
        return label if self.subtree is None else f"{label} below {printable(self.subtree)}"

    def match(self, name: str) -> str | None:
        """Returns the name relative to the subtree, None if the file lies elsewhere."""
        if self.subtree is None:
            return name
        return name[len(self.subtree) + 1 :] if name.startswith(self.subtree + "/") else None


def is_wanted(name: str, size: int, head: Callable[[], bytes]) -> bool:
    """Says whether a file's bytes are read as an image's: by its suffix, without one by how it begins.

    What is not wanted becomes a row of length 0.

    Args:
        name: below the subtree, without a shard's name before it.
        size: in bytes.
        head: returns its first `HEAD_BYTES`; called if there is no suffix.
    """
    if reason_to_pass_over(name):
        return False
    if is_image(name):
        return True
    return not suffix(name) and 0 < size <= MAX_IMAGE_BYTES and format_of(head()) is not None


def is_label(name: str) -> bool:
    """Says whether a file holds the label of the image beside it."""
    return suffix(name) == ".cls" and not reason_to_pass_over(name)


def label_text(data: bytes, size: int, name: str) -> str:
    """Returns the text of a `.cls` file."""
    if size > MAX_LABEL_BYTES:
        raise SourceError(f"{printable(name)} has {size} bytes: a label is one integer or name")
    if len(data) < size:
        raise SourceError(f"the archive is truncated: it ends inside {printable(name)}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise SourceError(f"{printable(name)} is no text in UTF-8: iconv -t UTF-8 makes it one")
    return data.decode("utf-8-sig", "backslashreplace").strip()


class SortedFiles(NamedTuple):
    """Rows by what they are: those of images in the order of their names, label texts by key, what is not used."""

    images: list[int]
    sidecars: dict[str, str]
    notices: Notices


def sort_files(rows: Rows, *, label: str, parted: bool = False) -> SortedFiles:
    """Tells images, labels and other files apart.

    Args:
        rows: the files; `labels` holds the text of `.cls` files, "" for others; what is not wanted has length 0.
        label: what errors call the source.
        parted: names begin with their shard's name.
    """
    found = SortedFiles([], {}, Notices())
    sidecar_names: dict[str, str] = {}
    for index, (name, text, length) in enumerate(zip(rows.names, rows.labels, rows.lengths.tolist(), strict=True)):
        if reason := reason_to_pass_over(name.partition("/")[2] if parted else name):
            found.notices.add(reason, printable(name))
        elif suffix(name) == ".cls":
            key = sample_key(name)
            if key in found.sidecars:
                raise _same_key(label, key, sidecar_names[key], name)
            found.sidecars[key], sidecar_names[key] = str(text), name
        elif length or is_image(name):
            found.images.append(index)
        else:
            found.notices.add(reason_to_leave_out(name), printable(name))
    found.images.sort(key=rows.names.__getitem__)
    stray = sidecar_names.keys() - {sample_key(rows.names[index]) for index in found.images} if sidecar_names else ()
    for key in stray:
        found.notices.add("labels in .cls files beside no image", printable(sidecar_names[key]))
        del found.sidecars[key]
    if not found.images:
        told = "".join(f"; {notice.text}" for notice in found.notices.summary()[:3])
        tars = "; a tar of class tars is read by the source imagenet" * any(
            suffix(name) == ".tar" for name in rows.names
        )
        raise SourceError(f"{label} holds no images{told}{tars}")
    return found


def reason_to_leave_out(name: str) -> str:
    """Returns what files are called that are neither image nor label, by their suffix."""
    ending = suffix(name)
    if not ending:
        return "files without a suffix that are no images"
    return f"files with the suffix {ending}" if _USUAL_SUFFIX.fullmatch(ending) else "files with unusual suffixes"


def resolve_tree(
    rows: Rows,
    *,
    classes: Sequence[str] | None = None,
    label: str,
    folders: bool = True,
    parted: bool = False,
    asked: bool = False,
    class_level: int | None = None,
) -> Resolved:
    """Sorts images by name and labels them.

    Args:
        rows: the files, as `sort_files` takes them.
        classes: the class list to use.
        label: what errors call the source.
        folders: take folders for classes where there are no `.cls` files.
        parted: names begin with their shard's name.
        asked: the user said that all of it is one set.
        class_level: which folder of a path is the class, 1 for the first; None for the rule of `classes_of_paths`.
    """
    images, sidecars, notices = sort_files(rows, label=label, parted=parted)
    names = [rows.names[index] for index in images]
    _refuse_same_keys(names, label, strict=bool(sidecars) or parted)
    if folders and not asked:
        refuse_mixed_splits(names, label)
    if sidecars:
        texts = [sidecars.get(sample_key(name)) for name in names]
        if class_level is not None:
            raise OptionError(
                f"{label} has labels in .cls files: --class-level is for classes by folders, leave it out"
            )
        labelled = label_by_text(texts, classes, where=lambda index: f"{sample_key(names[index])}.cls")
        tell_labels(names, texts, labelled, notices, "images without a label in a .cls file, where others have one")
    elif folders:
        folder_names = classes_of_paths(names, notices, keep_single=classes is not None, level=class_level)
        labelled = label_by_name(folder_names, classes)
        if labelled.class_names:
            tell_labels(names, folder_names, labelled, notices, "images outside of class folders, without a label")
        else:
            _tell_folders(names, notices, "images in a single folder, which is not taken for a class", depth=1)
    else:
        labelled = unlabelled(len(names))
        if parted:
            _tell_folders(names, notices, "images in folders of shards, which are not taken for classes", depth=2)
    return Resolved(np.array(images, dtype=np.int64), labelled, notices)


def _tell_folders(names: Sequence[str], notices: Notices, reason: str, *, depth: int) -> None:
    """Notices images whose folders could have been classes: those that lie at least so deep."""
    for name in names:
        if name.count("/") >= depth:
            notices.add(reason, printable(name))


def refuse_mixed_splits(names: Iterable[str], label: str, *, remedy: str = "--subtree picks a part") -> None:
    """Refuses training and test data side by side: which of it is wanted is not to be guessed."""
    if sides := sides_of(names):
        these = " and ".join(map(printable, sides))
        raise OptionError(
            f"{label} holds what is named like several splits ({these}): {remedy}, --subtree . takes all as one"
        )


def sample_key(name: str) -> str:
    """Returns the WebDataset key of a file: its path up to the first dot of its name."""
    start = name.rfind("/") + 1
    dot = name.find(".", start + 1)
    return name[:dot] if dot > 0 else name


def _refuse_same_keys(names: list[str], label: str, *, strict: bool) -> None:
    """Refuses several images under one key; `names` are sorted.

    In a tree of pictures (not `strict`) dots are part of the names: IMG.1.jpg and IMG.2.jpg are two pictures. There
    only what differs in suffixes alone, such as 1.jpg and 1.png, or 1.jpg and its mask 1.seg.png, is one key.
    """
    bare = {name for name in names if sample_key(name) == name}  # without a suffix: sorted elsewhere than the others
    for key, group in groupby(names, key=sample_key):
        members = list(group)
        if key in bare and key not in members:
            members.append(key)
        if len(members) > 1:
            stems = [name if name == key else name.rpartition(".")[0] for name in members]
            if strict or key in stems or len(set(stems)) < len(stems):
                raise _same_key(label, key, *members[:2])


def _same_key(label: str, key: str, first: str, second: str) -> SourceError:
    if first == second:
        return SourceError(f"{label} holds {printable(first)} twice; keys must be unique: take one out")
    return SourceError(
        f"{label} holds {printable(key)} twice; keys must be unique ({printable(first)} and {printable(second)}; "
        "a key is a path up to the first dot of its file name): rename one or take it out"
    )


def refuse_twice(names: Iterable[str], label: str) -> None:
    """Refuses a name that stands twice; `names` are sorted or nearly so."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SourceError(f"{label} holds {printable(name)} twice; keys must be unique: take one out")
        seen.add(name)
