"""What the files of a folder, a tar or a set of shards mean: which are images, in which order, with which labels.

Labels come from `KEY.cls` files beside the images where there are any (the WebDataset convention), from folders
otherwise. A key is a path up to the first dot of its file name.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.readers.file_names import is_image, is_junk, printable, suffix
from selfie_data.sources.readers.labels import classes_of_paths, label_by_name, label_by_text, unlabelled
from selfie_data.sources.readers.spool import Rows
from selfie_data.sources.readers.spooled_source import Resolved

_log = logging.getLogger(__name__)
MAX_LABEL_BYTES = 4096  # of a `.cls` file


@dataclass(slots=True)
class FileFilter:
    """Chooses what of a tree is read: images and labels below `subtree`; counts what is left out."""

    subtree: str | None = None
    skipped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.subtree is not None:
            parts = [part for part in self.subtree.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise OptionError(f"a subtree is a path below the root, got {self.subtree}")
            self.subtree = "/".join(parts) or None

    def match(self, name: str) -> str | None:
        """Returns the name relative to the subtree, None if the file is not read."""
        if self.subtree is not None:
            if not name.startswith(self.subtree + "/"):
                return None
            name = name[len(self.subtree) + 1 :]
        if is_junk(name):
            return None
        if is_image(name) or suffix(name) == ".cls":
            return name
        self.skipped[suffix(name) or "no suffix"] += 1
        return None

    def report(self, label: str) -> None:
        """Logs how many files were no images."""
        if self.skipped:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.skipped.most_common(5))
            _log.info("%s: %d files are no images and were skipped (%s)", label, self.skipped.total(), kinds)


def label_text(data: bytes, size: int, name: str) -> str:
    """Returns the text of a `.cls` file."""
    if size > MAX_LABEL_BYTES:
        raise SourceError(f"{printable(name)} has {size} bytes: a label is one integer or name")
    if len(data) < size:
        raise SourceError(f"the archive is truncated: it ends inside {printable(name)}")
    return data.decode("utf-8", "backslashreplace").strip()


def resolve_tree(
    rows: Rows, *, classes: Sequence[str] | None = None, label: str, folders: bool = True, parted: bool = False
) -> Resolved:
    """Sorts images by name and labels them.

    Args:
        rows: the files; `labels` holds the text of `.cls` files, "" for images.
        classes: the class list to use.
        label: what errors call the source.
        folders: take folders for classes where there are no `.cls` files.
        parted: names begin with their shard's name.
    """
    images = [index for index, name in enumerate(rows.names) if is_image(name)]
    if not images:
        raise SourceError(f"{label} holds no images")
    images.sort(key=rows.names.__getitem__)
    names = [rows.names[index] for index in images]
    texts = [str(text) for text in rows.labels]
    sidecars = {sample_key(name): text for name, text in zip(rows.names, texts, strict=True) if suffix(name) == ".cls"}
    keys = [sample_key(name) for name in names] if sidecars or parted else names
    refuse_twice(keys, label)
    if sidecars:
        labelled = label_by_text([sidecars.get(key) for key in keys], classes)
    elif folders:
        labelled = label_by_name(classes_of_paths(names, keep_single=classes is not None), classes)
    else:
        labelled = unlabelled(len(names))
    return Resolved(np.array(images, dtype=np.int64), labelled)


def sample_key(name: str) -> str:
    """Returns the WebDataset key of a file: its path up to the first dot of its name."""
    start = name.rfind("/") + 1
    dot = name.find(".", start + 1)
    return name[:dot] if dot > 0 else name


def refuse_twice(names: Iterable[str], label: str) -> None:
    """Refuses a name that stands twice; `names` are sorted or nearly so."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SourceError(f"{label} holds {printable(name)} twice; keys must be unique")
        seen.add(name)
