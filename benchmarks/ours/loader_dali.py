"""This project with the DALI operator graph as its backend: the graph that also runs on a GPU."""

from collections.abc import Iterator
from typing import Any

from benchmarks.ours import loader
from benchmarks.work.task import Task

PACKAGES = loader.PACKAGES
SETTINGS = {**loader.SETTINGS, "backend": "dali"}
convert = loader.convert


def batches(task: Task) -> Iterator[Any]:
    return loader.run(task, backend="dali")
