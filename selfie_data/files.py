"""Files that are either whole or not there: temporary name, fsync, rename, fsync of the directory."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Writes `data` to `path` such that a crash at any moment leaves the old file or the new one.

    Args:
        path: the file.
        data: all of its bytes.
        temporary: where to write first, on the same file system; default: a hidden name beside `path`.
    """
    scratch = temporary or path.with_name(f".{path.name}.tmp")
    try:
        write_durable(scratch, data)
        publish(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def write_durable(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on disk; its name may not be yet."""
    with path.open("wb", buffering=0) as file:
        write_all(file.fileno(), data)
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


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
