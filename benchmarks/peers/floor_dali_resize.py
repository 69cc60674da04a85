"""DALI's decode + crop + resize alone: what a loader that does no more than that would reach with DALI."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import floor_dali
from benchmarks.work import Task

PACKAGES = floor_dali.PACKAGES
SETTINGS = {**floor_dali.SETTINGS, "what": "DALI decode + crop + resize alone"}


def convert(task: Task) -> None:
    """Nothing to convert."""


def batches(task: Task) -> Iterator[NDArray[np.generic]]:
    return floor_dali.run(task, cropped=True)
