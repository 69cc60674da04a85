"""Locks end with their owner, whatever it started."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfie_data.cache import locks
from selfie_data.cache.locks import is_owned, try_lock, unlock


@contextmanager
def forked_child() -> Iterator[None]:
    """A copy of this process that does nothing, for as long as the block lasts."""
    ours, theirs = socket.socketpair()
    if (child := os.fork()) == 0:
        ours.close()
        theirs.send(b"here")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    try:
        assert ours.recv(4) == b"here"
        yield
    finally:
        ours.close()
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("ending", ["unlocked", "killed"])
def test_a_child_that_was_forked_meanwhile_does_not_keep_a_lock(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "file"
    descriptor = try_lock(path)
    assert descriptor is not None
    with forked_child():
        assert is_owned(path)
        if ending == "unlocked":
            unlock(descriptor)
        else:  # the kernel closes what a process has open, and nobody unlocks it
            locks._locked.discard(descriptor)
            os.close(descriptor)
        assert not is_owned(path)
        assert not path.exists()


def test_a_lock_is_of_the_file_that_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    path.rename(tmp_path / "moved")
    second = try_lock(path)
    assert second is not None
    for descriptor in (first, second):
        unlock(descriptor)
    assert not locks._locked
