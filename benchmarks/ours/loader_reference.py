"""This project's reference: NumPy and Pillow, slow and obvious. Here to check the others, not to race them."""

from collections.abc import Iterator
from typing import Any

from benchmarks.ours import loader
from benchmarks.work.task import Task

PACKAGES = ("selfie", "numpy", "pillow", "torch")
SETTINGS = {**loader.SETTINGS, "backend": "reference"}
convert = loader.convert


def batches(task: Task) -> Iterator[Any]:
    return loader.run(task, backend="reference")
