"""Files that are either the old or the new one, whole, whatever happens while they are written."""

import contextlib
import os
from pathlib import Path

from selfie_model.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes; makes the folder if it is missing.

    Raises:
        RunError: the system does not let it be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        make_folder(path.parent)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); give another --out, or make room") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it; one that is there is fine.

    Raises:
        RunError: the system does not let it be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be made a folder ({error.strerror}); give another --out") from error
