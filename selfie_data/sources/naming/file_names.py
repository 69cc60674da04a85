"""Names of images: a compact table of them, what counts as an image, and how a name is shown.

A million Python strings take 100 MB and are copied whenever a process forks; a table takes the names' own bytes.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_TAKEN_AT_ONCE = 1 << 16  # names whose bytes are gathered at once, by 16 bytes of memory a byte: some 30 MB
IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".heic", ".heif", ".hif"),
        *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    )
)
SPLIT_KEYWORDS = {  # of the Hugging Face hub
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SYSTEM_FOLDERS = frozenset(  # of macOS, Synology and QNAP, ext4, Windows; in lower case, those with a dot apart
    ("__macosx", "@eadir", "#recycle", "@recycle", "lost+found", "$recycle.bin", "system volume information")
)
_LEFT_BEHIND = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """An immutable list of strings.

    Attributes:
        blob: all names, UTF-8 (bytes that are not are kept by surrogate escapes), without separators.
        ends: int64 [N], where each name ends in `blob`.
    """

    blob: bytes
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)), dtype=np.int64)
        return cls(blob=b"".join(encoded), ends=ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self.blob[start : int(self.ends[index])].decode("utf-8", "surrogateescape")

    def take(self, indices: NDArray[np.int64]) -> "NameTable":
        """Returns the strings at `indices`."""
        pieces = np.array_split(indices, 1 + len(indices) // _TAKEN_AT_ONCE)
        lengths = [self.ends[piece] - self._starts(piece) for piece in pieces]
        blob = b"".join(map(self._bytes, pieces, lengths))
        return NameTable(blob=blob, ends=np.cumsum(np.concatenate(lengths), dtype=np.int64))

    def _starts(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(indices > 0, self.ends[indices - 1], 0)

    def _bytes(self, indices: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
        shift = self._starts(indices) - (np.cumsum(lengths) - lengths)
        places: NDArray[np.int64] = np.repeat(shift, lengths) + np.arange(lengths.sum())
        return np.frombuffer(self.blob, dtype=np.uint8)[places].tobytes()

    def to_list(self) -> list[str]:
        return [self[index] for index in range(len(self))]


def suffix(name: str) -> str:
    """Returns the lower-case suffix with its dot, "" if there is none."""
    base = name[name.rfind("/") + 1 :]
    dot = base.rfind(".")
    return base[dot:].lower() if dot > 0 else ""


def is_image(name: str) -> bool:
    """Says whether a file's name is an image's; what is inside is found out when it is decoded."""
    return suffix(name) in IMAGE_SUFFIXES


def reason_to_pass_over(name: str) -> str:
    """Returns why a file is not looked at though it may be named like an image, "" if it is; `name` is a path."""
    slash = name.rfind("/")
    if slash >= 0 and _is_system_folder(name[:slash]):
        return "files in hidden or system folders"
    base = name[slash + 1 :]
    return "files that systems leave behind, such as .DS_Store" * (base.startswith("._") or base in _LEFT_BEHIND)


def is_junk(name: str) -> bool:
    """Says whether a file is passed over."""
    return bool(reason_to_pass_over(name))


@functools.lru_cache(1 << 14)
def _is_system_folder(path: str) -> bool:
    """Says whether a folder is hidden, a system's own, or lies in such a folder."""
    folders = path.lower().split("/")
    return any(folder in _SYSTEM_FOLDERS or (folder[:1] == "." and folder not in (".", "..")) for folder in folders)


def printable(name: str) -> str:
    """Returns a name as one line that any terminal and any JSON file can hold."""
    if name.isprintable():
        return name
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in name
    )
