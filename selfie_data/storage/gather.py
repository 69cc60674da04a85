"""Byte ranges of remote files, brought to this machine together: what lies close comes by one request.

wanted      file 3: 512-2000, 2560-9000         file 5: 70000-71000
requests    file 3: 512-9000                    file 5: 70000-71000
here        one file without a name: 0-8488, 8488-9488
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.storage.place import RemotePath
from selfie_data.storage.protocol import PART_BYTES

_GAP = 1 << 20  # bytes between two ranges that are fetched rather than asked around: a request costs 30 ms, 2.7 MB
_AT_ONCE = 8  # requests of a part each: 64 MiB of memory, and what one machine's network takes

Integers = NDArray[np.int64]


class Run(NamedTuple):
    """A range of a file to be fetched, and where it goes."""

    file: int
    start: int
    stop: int
    at: int


def join_ranges(file: NDArray[np.integer], offset: Integers, length: Integers) -> tuple[list[Run], Integers]:
    """Joins ranges, in any order, that lie close in one file; an empty one needs nothing.

    Returns:
        The runs to be fetched, and int64 [n]: where the bytes of each range are then.
    """
    order = np.lexsort((offset, file))
    order = order[length[order] > 0]
    where = np.zeros(len(file), np.int64)
    if not len(order):
        return [], where
    files, starts = file[order].astype(np.int64), offset[order]
    new = np.flatnonzero(np.diff(files, prepend=-1) != 0)
    reached = np.empty_like(starts)  # how far the ranges before it in its file go; they may overlap
    for first, last in zip(new, [*new[1:], len(order)], strict=True):
        reached[first:last] = np.maximum.accumulate(starts[first:last] + length[order[first:last]])
    gap = np.append(_GAP + 1, starts[1:] - reached[:-1])
    gap[new] = _GAP + 1
    begins = np.flatnonzero(gap > _GAP)
    stops = reached[np.append(begins[1:], len(order)) - 1]
    sizes = stops - starts[begins]
    at = np.cumsum(sizes) - sizes
    run = np.searchsorted(begins, np.arange(len(order)), side="right") - 1
    where[order] = at[run] + starts - starts[begins][run]
    runs = zip(files[begins].tolist(), starts[begins].tolist(), stops.tolist(), at.tolist(), strict=True)
    return [Run(*each) for each in runs], where


@contextmanager
def gather(paths: Sequence[RemotePath], runs: Sequence[Run], directory: Path) -> Iterator[int]:
    """Yields a descriptor of a file in `directory`, gone at the end, that holds the runs.

    Raises:
        OSError: it cannot be written, or a file be read; of remote ones a `StorageError` or FileNotFoundError.
    """
    with tempfile.TemporaryFile(dir=directory) as file, ThreadPoolExecutor(_AT_ONCE) as pool:
        descriptor = file.fileno()

        def fetch(part: Run) -> None:
            data = memoryview(paths[part.file].read_range(part.start, part.stop - part.start))
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], part.at + done)

        pending = [pool.submit(fetch, part) for run in runs for part in _parts(run)]
        try:
            for each in pending:
                each.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        yield descriptor


def _parts(run: Run) -> Iterator[Run]:
    for start in range(run.start, run.stop, PART_BYTES):
        yield Run(run.file, start, min(start + PART_BYTES, run.stop), run.at + start - run.start)
