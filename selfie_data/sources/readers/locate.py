"""From the path a user gives to the folder or archive a layout lies in."""

import os
from collections.abc import Callable
from pathlib import Path

from selfie_data.errors import SourceError


def existing(root: Path | str, kind: str) -> Path:
    """Returns the path; SourceError if nothing is there or it may not be read."""
    path = Path(root)
    try:
        path.stat()
    except FileNotFoundError as error:
        raise SourceError(f"there is no {path}: --root must name what the source {kind} reads") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    return path


def listed(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise SourceError(f"cannot read {folder}: {error.strerror}") from error


def below(folder: Path, suffix: str) -> list[Path]:
    """Returns the files below a folder whose names end in `suffix`, sorted."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"cannot read {error.filename}: {error.strerror}") from error

    found = [Path(where) / name for where, _, names in os.walk(folder, onerror=refuse) for name in names]
    return sorted(path for path in found if path.name.endswith(suffix) and path.is_file())


def layout_root(root: Path | str, kind: str, *, wanted: Callable[[str], bool], archives: Callable[[str], bool]) -> Path:
    """Finds a layout's files: `root` itself if it is a file or holds them, else one folder or archive in it.

    Args:
        root: what the user gave.
        kind: for the error.
        wanted: says by name whether a file is one of the layout's.
        archives: says by name whether a file is the layout's archive.
    """
    path = existing(root, kind)
    if not path.is_dir():
        return path
    inside = listed(path)
    if any(wanted(file.name) for file in inside):
        return path
    folders = [file for file in inside if file.is_dir() and any(wanted(inner.name) for inner in listed(file))]
    candidates = folders or [file for file in inside if file.is_file() and archives(file.name)]
    if not candidates:
        raise SourceError(f"{path} holds neither the files nor an archive of {kind}")
    if len(candidates) > 1:
        names = ", ".join(file.name for file in candidates[:5])
        raise SourceError(f"{path} holds several candidates for {kind} ({names}); --root must name one")
    return candidates[0]
