"""Files that one process at a time owns, by `flock`: the kernel frees a lock when its owner ends, however it ends.

A lock belongs to an open file, which a forked child has as well: a child closes what its parent has locked, or the lock
would outlive its owner.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_PAUSE_S = 0.01
_locked = set[int]()  # descriptors of this process
_changing = threading.Lock()  # a fork sees every descriptor of a lock in `_locked`, or none


def try_lock(path: Path) -> int | None:
    """Returns a descriptor of the file of this name, made if it is not there, that is locked; None if another has it.

    A file that was renamed or removed by the time its lock is got is no longer the one of this name.
    """
    while True:
        with _changing:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _locked.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            unlock(descriptor)
            return None
        if is_at(descriptor, path):
            return descriptor
        unlock(descriptor)


def lock(path: Path, *, give_up: Callable[[], None]) -> int:
    """Waits for the lock of a file; `give_up` is asked again and again, and raises when it has been long enough."""
    while (descriptor := try_lock(path)) is None:
        give_up()
        time.sleep(_PAUSE_S)
    return descriptor


def unlock(descriptor: int) -> None:
    """Frees a lock and closes its descriptor; copies of it (`os.dup`) stay open, without the lock."""
    with _changing:
        _locked.discard(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Says whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def is_owned(path: Path) -> bool:
    """Says whether a process has the lock of a file. One that nobody has is removed: its owner has ended."""
    if not path.exists():
        return False
    if (descriptor := try_lock(path)) is None:
        return True
    path.unlink(missing_ok=True)
    unlock(descriptor)
    return False


def _leave_to_parent() -> None:
    _changing.release()
    while _locked:
        os.close(_locked.pop())


os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_leave_to_parent)
