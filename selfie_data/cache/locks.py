"""Files that one process at a time owns, by `flock`: the kernel frees a lock when its owner ends, however it ends."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

_PAUSE_S = 0.01


def try_lock(path: Path) -> int | None:
    """Returns a descriptor of the file of this name, made if it is not there, that is locked; None if another has it.

    A file that was renamed or removed by the time its lock is got is no longer the one of this name.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def lock(path: Path, *, give_up: Callable[[], None]) -> int:
    """Waits for the lock of a file; `give_up` is asked again and again, and raises when it has been long enough."""
    while (descriptor := try_lock(path)) is None:
        give_up()
        time.sleep(_PAUSE_S)
    return descriptor


def is_at(descriptor: int, path: Path) -> bool:
    """Says whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def is_owned(path: Path) -> bool:
    """Says whether a process has the lock of a file. One that nobody has is removed: its owner has ended."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        if is_at(descriptor, path):
            path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
