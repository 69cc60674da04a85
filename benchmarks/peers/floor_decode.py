"""The floor under every loader of JPEGs: simplejpeg in a thread a core, nothing else, the pixels thrown away.

Yields empty patch batches, only their length counts. For raw images the floor is a copy of the stored bytes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import load
from benchmarks.peers.floor_cached import stand_in
from benchmarks.work import Task

PACKAGES = ("simplejpeg", "numpy")
SETTINGS = {"what": "decode (or, for raw, copy) in one thread a core, nothing else"}
_CHUNK = 32


def convert(task: Task) -> None:
    """Nothing to convert."""


def batches(task: Task) -> Iterator[NDArray[np.generic]]:
    import simplejpeg

    packed = load(task.source)
    rng = np.random.default_rng(task.seed)
    answer = stand_in(task)
    raw = np.empty((task.batch_size, packed.payload(0).size), np.uint8)

    def work(chosen: list[tuple[int, int]]) -> None:
        for slot, index in chosen:
            payload = packed.payload(index)
            if task.encoded:
                simplejpeg.decode_jpeg(payload)
            else:
                raw[slot] = payload

    with ThreadPoolExecutor(task.threads) as pool:
        while True:
            order = list(enumerate(rng.integers(0, len(packed), task.batch_size).tolist()))
            list(pool.map(work, [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]))
            yield answer
