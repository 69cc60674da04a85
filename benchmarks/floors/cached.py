"""The upper bound: a loader that has one finished batch and copies it into a reused buffer, again and again."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.work.task import MEAN, STD, Task

PACKAGES = ("numpy",)
SETTINGS = {"what": "one cached batch, copied into a reused buffer by one thread"}


def convert(task: Task) -> None:
    """Nothing to convert."""


def stand_in(task: Task) -> NDArray[np.generic]:
    """A batch of the right shape and type: noise."""
    shape = (task.batch_size, task.cells, task.patch_size, task.patch_size, 3)
    pixels = np.random.default_rng(task.seed).integers(0, 256, shape, dtype=np.uint8)
    if task.dtype == "uint8":
        return pixels
    return (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


def batches(task: Task) -> Iterator[NDArray[np.generic]]:
    kept = stand_in(task)
    out = np.empty_like(kept)
    while True:
        np.copyto(out, kept)
        yield out
