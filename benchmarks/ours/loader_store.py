"""This project with the decoded pixels held in memory: shards exported once to a pixel store."""

from collections.abc import Iterator
from typing import Any

from benchmarks.ours import loader
from benchmarks.work.dataset import store
from benchmarks.work.task import Task

PACKAGES = (*loader.PACKAGES, "zarr")
SETTINGS = {**loader.SETTINGS, "backend": "store"}


def convert(task: Task) -> None:
    """Builds shards and store, once."""
    store(task)


def batches(task: Task) -> Iterator[Any]:
    return loader.run(task, backend="store", store=store(task))
