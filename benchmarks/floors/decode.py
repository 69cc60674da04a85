"""The floor under every loader of JPEGs: simplejpeg in a thread a core, nothing else, the pixels thrown away.

Yields empty patch batches, only their length counts. For raw images the floor is a copy of the stored bytes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.floors.cached import stand_in
from benchmarks.work.material import load
from benchmarks.work.task import Task

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

    def work(chosen: NDArray[np.int64]) -> None:
        if task.encoded:
            for index in chosen.tolist():
                simplejpeg.decode_jpeg(packed.payload(index))
        else:
            packed.data.reshape(len(packed), -1).take(chosen, axis=0)

    parts = task.threads if not task.encoded else -(-task.batch_size // _CHUNK)
    with ThreadPoolExecutor(task.threads) as pool:
        while True:
            order = rng.integers(0, len(packed), task.batch_size)
            list(pool.map(work, np.array_split(order, parts)))
            yield answer
