"""This project with the decoded pixels held in memory: shards exported once to a pixel store."""

from collections.abc import Iterator
from typing import Any

from benchmarks.dataset import store
from benchmarks.peers import selfie
from benchmarks.work import Task

PACKAGES = (*selfie.PACKAGES, "zarr")
SETTINGS = {**selfie.SETTINGS, "backend": "store"}


def convert(task: Task) -> None:
    """Builds shards and store, once."""
    store(task)


def batches(task: Task) -> Iterator[Any]:
    return selfie.run(task, backend="store", store=store(task))
