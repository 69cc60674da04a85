"""From what a source says about its images to one class index an image.

The class index is the position in the sorted class names. Integer labels become names padded with zeros, so that
sorting the names sorts the numbers: 1, 2, 10 → "01", "02", "10". -1 stands for no label.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError, UnknownClassError
from selfie_data.notices import Notices
from selfie_data.sources.naming.file_names import printable
from selfie_data.sources.naming.split_names import is_keyword

_MAX_CLASSES = 1 << 20  # more are no classes but numbers of images
_NO_CLASSES = (  # folders of a kind of file, not of a class: images and masks side by side, cat/images
    "images", "image", "imgs", "img", "pictures", "photos", "pics", "jpg", "jpeg", "png", "jpegimages", "frames", "raw",
    "rgb", "data", "files", "crops", "thumbs", "thumbnails", "masks", "mask", "labels", "annotations", "gt",
    "ground_truth", "groundtruth", "segmentationclass", "segmentationobject", "depth",
)  # fmt: skip
_NOTHING = frozenset(["none", "null", "nil", "na", "n/a", "#n/a", "<na>", "nan", "-", "?"])  # what may mean no label
_SEVERAL = re.compile(r"[|;\t\n]|^\[")  # "cat|dog", "[0, 1]"; a comma may stand in a class name
_NUMBERS = re.compile(r"[-+.\d]+([\s,]+[-+.\d]+)+")  # "0 1 1", "3,5"


class Labelled(NamedTuple):
    """Sorted class names, and the class index of every image, int32 [N], -1 for none, read-only."""

    class_names: tuple[str, ...]
    labels: NDArray[np.int32]

    def take(self, indices: NDArray[np.int64]) -> "Labelled":
        """Returns the labels of the images at `indices`, without the names, which are of all images."""
        return Labelled((), self.labels[indices])


def unlabelled(count: int) -> Labelled:
    """Returns what `count` images without labels have."""
    labels = np.full(count, -1, dtype=np.int32)
    labels.flags.writeable = False
    return Labelled((), labels)


def label_by_name(names: Sequence[str | None], classes: Sequence[str] | None = None) -> Labelled:
    """Labels images by their classes' names, None for no label.

    Args:
        names: the class of each image.
        classes: the class list to use; without it, the names that occur.
    """
    found = sorted({name for name in names if name is not None})
    codes = dict(zip(found, range(len(found)), strict=True))
    array = np.fromiter((-1 if name is None else codes[name] for name in names), dtype=np.int64, count=len(names))
    return label_by_code(array, found, classes)


def label_by_code(
    codes: NDArray[np.integer],
    code_names: Sequence[str],
    classes: Sequence[str] | None = None,
    *,
    where: Callable[[int], str] | None = None,
) -> Labelled:
    """Labels images by positions in a list of names that need not be sorted, -1 for no label.

    Every name of the list is a class, whether an image has it or not. `where` names an image for errors.
    """
    unlabelled = codes < 0
    if codes.size and int(codes.max()) >= len(code_names):
        place = "" if where is None else f"{printable(where(int(codes.argmax())))}: "
        raise SourceError(
            f"{place}a label is {int(codes.max())}, but there are only {len(code_names)} class names, counted from 0"
        )
    ordered = sorted(code_names) if classes is None else list(classes)  # of a dataset that grew, those are not sorted
    if undecodable := [name for name in ordered if any("\ud800" <= character <= "\udfff" for character in name)]:
        raise SourceError(f"the class name {printable(undecodable[0])!r} is not in UTF-8: rename its folder")
    if len(set(code_names)) < len(code_names) or len(set(ordered)) < len(ordered):
        twice = next(name for name in [*code_names, *ordered] if max(code_names.count(name), ordered.count(name)) > 1)
        raise SourceError(f"the class name {printable(twice)!r} stands twice in the list of classes")
    _refuse_alike({*code_names, *ordered})
    used = np.zeros(len(code_names), dtype=bool)
    used[codes[~unlabelled]] = True
    table = np.full(len(code_names) + 1, -1, dtype=np.int32)  # the last entry is where -1 points
    positions = dict(zip(ordered, range(len(ordered)), strict=True))
    table[:-1] = [positions.get(name, -1) for name in code_names]
    missing = np.flatnonzero(used & (table[:-1] < 0))
    if missing.size:
        name = code_names[missing[0]]
        raise UnknownClassError(
            f"the class {printable(name)!r} is not in the list of {len(ordered)} classes to use: build without "
            "--classes-from, or leave its images out",
            name,
        )
    labels = table[np.where(unlabelled, -1, codes)]
    labels.flags.writeable = False
    if classes is None and not used.any():
        return Labelled((), labels)
    return Labelled(tuple(ordered), labels)


def _refuse_alike(names: Iterable[str]) -> None:
    """Refuses classes that look the same: other code points for one letter, spaces at an end or two in a row."""
    seen: dict[str, str] = {}
    for name in names:
        shown = " ".join(unicodedata.normalize("NFC", name).split())
        other = seen.setdefault(shown, name)
        if other != name:
            first, second = sorted((ascii(other), ascii(name)))
            raise SourceError(
                f"the class names {first} and {second} look the same: rename one, or give labels by --table"
            )


def label_by_integer(values: NDArray[np.integer], *, width: int = 1, classes: Sequence[str] | None = None) -> Labelled:
    """Labels images by integers, negative for no label; the classes are the integers that occur.

    Args:
        values: int [N].
        width: digits a name has at least.
        classes: the class list to use; its names are compared as numbers.
    """
    present = np.unique(values[values >= 0])
    if len(present) > _MAX_CLASSES:
        raise SourceError(f"there are {len(present)} different labels; at most {_MAX_CLASSES} are taken for classes")
    width = max(width, len(str(int(present[-1])))) if len(present) else width
    names = [f"{int(value):0{width}d}" for value in present]
    if classes is not None and all(name.isascii() and name.isdigit() for name in classes):
        spelling: dict[int, str] = {}
        for name in classes:
            other = spelling.setdefault(int(name), name)
            if other != name and int(name) in present:
                raise SourceError(
                    f"the label {int(name)} is the class {other!r} or {name!r} of the list of classes to use: spell "
                    "labels as the list does"
                )
        names = [spelling.get(int(value), name) for value, name in zip(present, names, strict=True)]
    codes = np.where(values < 0, -1, np.searchsorted(present, values))
    return label_by_code(codes, names, classes)


def label_by_text(
    values: Sequence[str | None], classes: Sequence[str] | None = None, *, where: Callable[[int], str] | None = None
) -> Labelled:
    """Labels images by text: numbers if all are integers, names otherwise; "" and None for no label.

    Integers that are spelled in two ways, 1 and 01, are names: whoever writes so may mean two classes. An integer below
    zero is no label beside names either.

    Args:
        values: the text of each image.
        classes: the class list to use; without it, the texts that occur.
        where: says of a position in `values` where its text stands, for errors.
    """
    cleaned = [None if value is None or not value.strip() else value.strip() for value in values]
    named = [None if value is not None and _is_integer(value) and int(value) < 0 else value for value in cleaned]
    if classes is not None and set(named) <= {None, *classes}:  # spelled as the list spells them
        return label_by_name(named, classes)
    if not all(value is None or _is_integer(value) for value in cleaned):
        cleaned = named
    present = [value for value in cleaned if value is not None]
    spellings = set(present)
    if present and all(map(_is_integer, spellings)) and len(set(map(int, spellings))) == len(spellings):
        numbers = np.fromiter((-1 if value is None else int(value) for value in cleaned), np.int64, len(cleaned))
        return label_by_integer(numbers, classes=classes)
    for value in sorted(spellings - set(classes or ())):
        if reason := _reason_to_refuse(value):
            place = "" if where is None else f"{printable(where(cleaned.index(value)))}: "
            raise SourceError(place + reason)
    return label_by_name(cleaned, classes)


def _reason_to_refuse(value: str) -> str:
    """Returns what is wrong with a label that may be none, is several, or a number with a fraction; "" if nothing."""
    shown = f"'{printable(value)[:60]}'"
    if value.lower() in _NOTHING:
        return (
            f"is the label {shown} a class or none? Leave it empty for none; a class list that has it "
            "(--classes-from) says that it is one"
        )
    if "\0" in value:
        return f"the label {shown} holds a zero byte: it is no text; save the file as UTF-8"
    if _SEVERAL.search(value) or _NUMBERS.fullmatch(value):
        return f"an image has several labels ({shown}); one class an image is supported"
    try:
        number = float(value)
    except ValueError:
        return ""
    if _is_integer(value):
        return ""
    rule = "labels are class names, integers of at most 18 digits, or nothing"
    if value.strip("+-").isdigit():
        return f"the label is the number {shown}; {rule}"
    whole = "; pandas writes integers so where one is missing: astype('Int64') keeps them" * number.is_integer()
    return f"the label is the fraction {shown}; {rule}{whole}"


def _is_integer(value: str) -> bool:
    return value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 18


def classes_of_paths(
    names: Sequence[str], notices: Notices | None = None, *, keep_single: bool = False, level: int | None = None
) -> list[str | None]:
    """Returns the class of each image in a tree: the name of its folder, None outside of folders.

    Folder names at the end of the path that all images share say nothing and are passed over (n01443537/images/…).
    If that leaves nothing, the images lie in one folder and have no labels.

    Args:
        names: paths relative to the tree's root, with `/`.
        notices: takes the classes that several folders were merged into.
        keep_single: take the one folder that holds all images for a class after all.
        level: which folder of a path is the class, 1 for the first, instead of all that; images above it have none.
    """
    if level is not None:
        parents = [name.split("/")[:-1] for name in names]
        if level > (deepest := max(map(len, parents), default=0)):
            raise OptionError(
                f"--class-level {level} is deeper than the images lie: the deepest path has {deepest} folders"
            )
        return [folders[level - 1] if len(folders) >= level else None for folders in parents]
    folders = sorted({name.rpartition("/")[0] for name in names} - {""})
    if len(folders) == 1:
        only = folders[0].rpartition("/")[2] if keep_single else None
        return [only if "/" in name else None for name in names]
    paths = {folder: folder.split("/") for folder in folders}
    while paths and len({path[-1] for path in paths.values()}) == 1 and min(map(len, paths.values())) > 1:
        for path in paths.values():
            path.pop()
    classes = {folder: path[-1] for folder, path in paths.items()}
    kinds = sorted({name for name in classes.values() if name.lower() in _NO_CLASSES})
    for name in kinds:
        where = [folder for folder, found in classes.items() if found == name]
        if len(where) > 1:
            raise OptionError(
                f"are {printable(where[0])} and {printable(where[1])} of one class {printable(name)}, or is it a "
                f"folder above? --class-level says which folder of a path it is, 1 for {printable(paths[where[0]][0])}"
            )
    if len(kinds) > 1:
        first = next(folder for folder, found in classes.items() if found == kinds[0])
        raise OptionError(
            f"are {printable(kinds[0])} and {printable(kinds[1])} classes, or kinds of files? --subtree "
            f"{printable(first)} reads one of them, --class-level {len(paths[first])} takes them for classes"
        )
    if notices is not None:
        for name in kinds:
            notices.add("classes that are called like a kind of files", printable(name))
        for name in filter(is_keyword, sorted(set(classes.values()))):
            notices.add("classes that are called like a split (--subtree picks a part)", printable(name))
        _tell_merged(classes, notices)
        _tell_nested(
            {"/".join(path): name for path, name in zip(paths.values(), classes.values(), strict=True)}, notices
        )
    return [classes.get(name.rpartition("/")[0]) for name in names]


def tell_labels(
    names: Sequence[str], texts: Sequence[str | None], labelled: Labelled, notices: Notices, reason: str
) -> None:
    """Notices what was guessed of labels, and which images have none among those that have.

    Args:
        names: of the images, in the source.
        texts: what it says of each image's class; None or "" for nothing, and then `reason` is why.
        labelled: what was made of it.
        notices: takes it all.
        reason: what images without a label are called.
    """
    if not (labelled.labels >= 0).any():
        reason = reason.removesuffix(", where others have one")
    for index in np.flatnonzero(labelled.labels < 0).tolist():
        notices.add(
            "images whose label is below zero, taken for none" if texts[index] else reason, printable(names[index])
        )
    _tell_alike(labelled.class_names, str.casefold, "classes whose names differ in upper and lower case only", notices)
    spellings = {text for text in texts if text}
    _tell_alike(spellings, str.strip, "labels that differ in spaces around them only, taken for one", notices)


def _tell_alike(names: Iterable[str], same: Callable[[str], str], reason: str, notices: Notices) -> None:
    groups = defaultdict[str, list[str]](list)
    for name in names:
        groups[same(name)].append(name)
    for group in groups.values():
        if len(group) > 1:
            notices.add(reason, ", ".join(f"'{printable(name)}'" for name in sorted(group)))


def _tell_merged(classes: dict[str, str], notices: Notices) -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for folder, name in classes.items():
        where[name].append(folder)
    for name, found in where.items():
        if len(found) > 1:
            some = ", ".join(map(printable, found[:3])) + ", …" * (len(found) > 3)
            notices.add(
                "classes made of several folders (--subtree picks a part)",
                f"{printable(name)}: {len(found)} folders, {some}",
            )


def _tell_nested(classes: dict[str, str], notices: Notices) -> None:
    """Notices class folders inside another class's: of cat/1.jpg and cat/small/2.jpg, the second may be a cat too."""
    for folder, name in classes.items():
        above = folder
        while above := above.rpartition("/")[0]:
            if above in classes:
                inside = f"{printable(folder)}: class {printable(name)}, inside {printable(classes[above])}"
                notices.add("classes inside the folder of another (--class-level says which folder counts)", inside)
                break
