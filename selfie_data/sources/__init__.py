"""Where images come from: one file a layout. `open_source` is the only way in."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from selfie_data.errors import OptionError
from selfie_data.source import ImageSource
from selfie_data.sources.options import SourceOptions
from selfie_data.storage.place import Place

KINDS = ("cifar10", "cifar100", "imagenet32", "imagenet", "folder", "parquet", "tar", "synthetic")
SPLITS = ("train", "val", "test")
_MODULES = {"cifar10": "cifar", "cifar100": "cifar"}
_ANY_SPLIT = ("parquet", "folder")  # whose splits may have any name; a folder has them by a table only
_WITH_COARSE_LABELS = ("cifar100", "parquet")
_TAKEN_BY = {
    "label_column": ("parquet", "folder"),
    "image_column": ("parquet", "folder"),
    "split_column": ("parquet", "folder"),
    "config": ("parquet",),
    "subtree": ("folder", "tar", "imagenet"),
    "class_level": ("folder", "tar"),
    "table": ("folder",),
    "synsets": ("imagenet",),
    "ground_truth": ("imagenet",),
    "devkit": ("imagenet",),
}


def open_source(
    kind: str,
    root: Path | str | None = None,
    *,
    split: str = "train",
    labels: str = "fine",
    label_column: str | None = None,
    image_column: str | None = None,
    split_column: str | None = None,
    config: str | None = None,
    subtree: str | None = None,
    class_level: int | None = None,
    table: Path | str | None = None,
    synsets: Path | str | None = None,
    ground_truth: Path | str | None = None,
    devkit: Path | str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    size: int = 32,
    seed: int = 0,
    checksum: bool | None = None,
    listings: Place | None = None,
) -> ImageSource:
    """Opens a source of images; decodes nothing.

    Args:
        kind: one of `KINDS`.
        root: the archive or folder; for `tar` also a brace list or a URL; None for `synthetic` only.
        split: train, val or test. Parquet, and tables of a folder: any other name too, or all. Folders without a table
            and tars have no splits: `subtree` picks a part.
        labels: cifar100: fine (100 classes) or coarse (20). Parquet: which label column if there are these two.
        label_column: parquet, tables: the column of the labels, where its name or type does not tell.
        image_column: parquet, tables: the column of the images, or of their paths.
        split_column: parquet, tables: the column that says which split a row is of, where it is not called split.
        config: parquet: a configuration of the repository, or a folder, or a pattern of folders.
        subtree: folder, tar: only what lies below this path, such as cifar10/train.
        class_level: folder, tar: which folder of an image's path is its class, from 1 for the first one; None: the
            innermost that tells images apart.
        table: folder: a CSV or TSV of path,label that says which images there are and their labels.
        synsets: imagenet validation: a file of one WNID a line, in the order of the images' names.
        ground_truth: imagenet validation: the official file of one ILSVRC2012 id a line.
        devkit: imagenet validation: the official development kit, a folder or an archive, which holds that file too; or
            a text of lines "id WNID", for ids that are not the official ones.
        classes: class names to use (another build's); a class that is not among them is refused.
        limit, size, seed: synthetic: how many pictures, their side in pixels, and the seed.
        checksum: compare an official archive with its published MD5: None: up to 1 GiB, True: always, False: never.
        listings: a folder in which the listings of remote tars are kept and found again, by other processes too.

    Raises:
        SourceError: no such thing there, or it is not what `kind` says.
        OptionError: `kind` has no such split, takes no such option, or needs one that is missing.
        ValueError: an argument out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"a source is one of {', '.join(KINDS)}, got {kind!r}")
    if split not in SPLITS and (kind not in _ANY_SPLIT or not split):
        raise ValueError(f"a split is one of {', '.join(SPLITS)}, got {split!r}")
    if labels not in ("fine", "coarse"):
        raise ValueError(f"labels are fine or coarse, got {labels!r}")
    options = SourceOptions(
        split=split,
        labels=labels,
        label_column=label_column,
        image_column=image_column,
        split_column=split_column,
        config=config,
        subtree=subtree,
        class_level=class_level,
        table=_path(table),
        synsets=_path(synsets),
        ground_truth=_path(ground_truth),
        devkit=_path(devkit),
        classes=None if classes is None else tuple(classes),
        limit=limit,
        size=size,
        seed=seed,
        checksum=checksum,
        listings=listings,
    )
    if root in (None, "") and kind != "synthetic":  # "" is a variable of the shell that is not set
        raise OptionError(f"the source {kind} needs --root: the archive or folder to read")
    for name, kinds in _TAKEN_BY.items():
        if getattr(options, name) is not None and kind not in kinds:
            option = "--" + name.replace("_", "-")
            raise OptionError(f"{option} is for {', '.join(kinds)}, got it for {kind}: leave it out")
    if labels != "fine" and kind not in _WITH_COARSE_LABELS:
        raise OptionError(f"--labels coarse is for {', '.join(_WITH_COARSE_LABELS)}, got it for {kind}: leave it out")
    module = import_module(f"selfie_data.sources.{_MODULES.get(kind, kind)}")
    return cast(ImageSource, module.open_images(kind, "" if root is None else root, options))


def _path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)
