"""Files that are either whole or not there, and JSON files read with suspicion; the same for every package.

Whole: temporary name, fsync, rename, fsync of the folder. A crash at any moment, a power cut too, leaves the old file
or the new one.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from selfie_data.errors import RunError

_SHOWN = 60  # characters of a wrong value


class Readable(Protocol):
    """A path, wherever it leads."""

    def read_bytes(self) -> bytes: ...


@contextmanager
def open_atomic(path: Path, *, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` at the end of the block; if the block fails, nothing has happened.

    Args:
        path: the file.
        temporary: where to write first, on the same file system; default: a hidden name beside `path`.
    """
    scratch = temporary or path.with_name(f".{path.name}.tmp")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            scratch.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Writes `data` to `path`, by way of `temporary`, as `open_atomic` does."""
    with open_atomic(path, temporary=temporary) as file:
        write_all(file.fileno(), data)


def write_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Writes a file; `durable`: and waits until its bytes are on disk, its name may not be yet."""
    with path.open("wb", buffering=0) as file:
        write_all(file.fileno(), data)
        if durable:
            os.fsync(file.fileno())


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Writes every byte; a plain `write` may stop early."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def publish(scratch: Path, path: Path) -> None:
    """Renames a file or directory that is already on disk to its final name, and makes the new name durable."""
    os.replace(scratch, path)
    sync_directory(path.parent)


def publish_tree(scratch: Path, path: Path) -> None:
    """Makes every file and folder below a folder durable, and then as `publish` does."""
    for folder, _, names in os.walk(scratch):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))
    publish(scratch, path)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_output(path: Path, content: bytes | str) -> None:
    """Writes a file of a command's `--out` atomically, text as UTF-8; makes the folder if it is missing.

    Raises:
        RunError: the system does not let it be written.
    """
    make_output_folder(path.parent)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:  # the process in the name: several machines may write a study's table at once
        write_atomic(path, data, temporary=path.with_name(f".{path.name}.{os.getpid()}"))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); give another --out, or make room") from error


def write_output_json(path: Path, content: Mapping[str, Any], *, sort_keys: bool = False) -> None:
    """Writes an object as indented JSON; otherwise as `write_output`."""
    write_output(path, json.dumps(content, indent=2, sort_keys=sort_keys) + "\n")


def make_output_folder(path: Path) -> None:
    """Makes a folder and those above it; one that is there is fine.

    Raises:
        RunError: the system does not let it be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be made a folder ({error.strerror}); give another --out") from error


def read_json(path: Readable, *, remedy: str, error: type[Exception] = RunError) -> dict[str, Any] | None:
    """Returns the object that a JSON file holds, None if there is no such file.

    Args:
        path: the file.
        remedy: what the user can do if it is damaged.
        error: what is raised then.

    Raises:
        error: it is no JSON, or holds no object.
    """
    with damaged(path, remedy=remedy, error=error):
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not isinstance(content, dict):
            raise TypeError(f"it must hold an object, got {type(content).__name__}")
        return content


@contextmanager
def damaged(path: Readable, *, remedy: str, error: type[Exception] = RunError) -> Iterator[None]:
    """Turns what goes wrong while a file's content is taken apart into one line: `error`, which names file and remedy.

    Raises:
        error: instead of the errors that a wrong shape of the content causes.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as cause:
        reason = f"no entry {cause}" if isinstance(cause, KeyError) else str(cause)
        raise error(f"{path} is damaged or of another version ({reason}); {remedy}") from cause


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
