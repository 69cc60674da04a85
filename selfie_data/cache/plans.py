"""What the processes of a node are going to read, so that whoever makes room drops what is needed last.

Each process keeps a file, locked for as long as it lives: a step, then rows of (first step, last step, digest), in the
order in which shards come. The step is written anew at every step, eight bytes, the rows once an epoch. A reader may
meet a file that is being written: then one shard more or less is dropped, nothing else.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.cache.locks import is_owned, try_lock, unlock

_PREFIX, _SUFFIX = "reader-", ".plan"
_ROW = np.dtype([("first", "<i8"), ("last", "<i8"), ("digest", "V32")])
_STEP = np.dtype("<i8")
NEVER = 1 << 62  # steps until what nobody plans to read


class PlannedUse(NamedTuple):
    """A shard by its SHA-256, as hexadecimal digits, and the first and last step that need it."""

    digest: str
    first: int
    last: int


class Plan:
    """This process's plan among those of a cache; the lock ends with the process, whatever becomes of it."""

    def __init__(self, folder: Path) -> None:
        while True:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=_PREFIX, suffix=_SUFFIX, delete=False) as file:
                self._path = Path(file.name)
            locked = try_lock(self._path)
            if locked is not None:
                break  # else somebody took it for a leftover, and is removing it
        self._descriptor = locked

    def replace(self, step: int, uses: Iterable[PlannedUse]) -> None:
        """Says what is going to be read from `step` on."""
        rows = np.array([(use.first, use.last, bytes.fromhex(use.digest)) for use in uses], _ROW)
        data = np.array(step, _STEP).tobytes() + rows.tobytes()
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def advance(self, step: int) -> None:
        """Says that what no step from `step` on needs is no longer read."""
        os.pwrite(self._descriptor, np.array(step, _STEP).tobytes(), 0)

    def close(self) -> None:
        """Removes the plan. To be called once."""
        self._path.unlink(missing_ok=True)
        unlock(self._descriptor)


def next_uses(folder: Path) -> dict[str, int]:
    """Returns digest -> steps until it is needed (0 = at this moment), of all living processes of a cache."""
    soonest = dict[str, int]()
    for path in living(folder):
        for digest, distance in _distances(path):
            soonest[digest] = min(distance, soonest.get(digest, distance))
    return soonest


def living(folder: Path) -> list[Path]:
    """Returns the plans of processes that live; those of others are removed."""
    return [path for path in folder.glob(f"{_PREFIX}*{_SUFFIX}") if is_owned(path)]


def _distances(path: Path) -> Iterable[tuple[str, int]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = _STEP.itemsize + (len(data) - _STEP.itemsize) // _ROW.itemsize * _ROW.itemsize
    if whole < _STEP.itemsize:
        return []
    step = int(np.frombuffer(data, _STEP, count=1)[0])
    rows: NDArray[np.void] = np.frombuffer(data[_STEP.itemsize : whole], _ROW)
    rows = rows[rows["last"] >= step]
    digits = rows["digest"].tobytes().hex()
    digests = (digits[start : start + 64] for start in range(0, len(digits), 64))
    return zip(digests, np.maximum(rows["first"] - step, 0).tolist(), strict=True)
