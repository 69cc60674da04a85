"""This project with the DALI operator graph as its backend: the graph that also runs on a GPU."""

from collections.abc import Iterator
from typing import Any

from benchmarks.peers import selfie
from benchmarks.work import Task

PACKAGES = selfie.PACKAGES
SETTINGS = {**selfie.SETTINGS, "backend": "dali"}
convert = selfie.convert


def batches(task: Task) -> Iterator[Any]:
    return selfie.run(task, backend="dali")
