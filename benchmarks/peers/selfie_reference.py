"""This project's reference: NumPy and Pillow, slow and obvious. Here to check the others, not to race them."""

from collections.abc import Iterator
from typing import Any

from benchmarks.peers import selfie
from benchmarks.work import Task

PACKAGES = ("selfie", "numpy", "pillow", "torch")
SETTINGS = {**selfie.SETTINGS, "backend": "reference"}
convert = selfie.convert


def batches(task: Task) -> Iterator[Any]:
    return selfie.run(task, backend="reference")
