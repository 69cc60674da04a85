"""JSON files of runs and studies, read with suspicion: damage is one line that names the file and the way out."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfie_model.errors import RunError

_SHOWN = 60  # characters of a wrong value


def read_object(path: Path, *, remedy: str) -> dict[str, Any] | None:
    """Returns the object that a JSON file holds, None if there is no such file.

    Args:
        path: the file.
        remedy: what the user can do if it is damaged.

    Raises:
        RunError: it is no JSON, or holds no object.
    """
    with damaged(path, remedy=remedy):
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not isinstance(content, dict):
            raise TypeError(f"it must hold an object, got {type(content).__name__}")
        return content


@contextmanager
def damaged(path: Path, *, remedy: str) -> Iterator[None]:
    """Turns what goes wrong while a file's content is taken apart into one line.

    Raises:
        RunError: instead of the errors that a wrong shape of the content causes.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path} is damaged or of another version ({reason}); {remedy}") from error


def number(content: Mapping[str, Any], name: str) -> float:
    """Returns the entry `name` as it is; not a number (NaN) is one.

    Raises:
        ValueError: there is none.
        TypeError: it is something else.
    """
    if name not in content:
        raise ValueError(f"no entry {name!r}")
    return checked_number(content[name], name)


def checked_number(value: object, name: str) -> float:
    """Returns a number as it is.

    Raises:
        TypeError: it is none; true and false are none either.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {repr(value)[:_SHOWN]}")
    return value
