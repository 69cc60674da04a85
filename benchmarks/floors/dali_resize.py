"""DALI's decode + crop + resize alone: what a loader that does no more than that would reach with DALI."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.floors import dali_decode
from benchmarks.work.task import Task

PACKAGES = dali_decode.PACKAGES
SETTINGS = {**dali_decode.SETTINGS, "what": "DALI decode + crop + resize alone"}


def convert(task: Task) -> None:
    """Nothing to convert."""


def batches(task: Task) -> Iterator[NDArray[np.generic]]:
    return dali_decode.run(task, cropped=True)
