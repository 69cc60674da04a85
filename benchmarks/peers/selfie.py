"""This project: shards built by `selfie_data` from the same bytes, read by `pipelines.PatchLoader` on the CPU."""

from collections.abc import Iterator
from typing import Any

from benchmarks.dataset import shards
from benchmarks.work import Task

PACKAGES = ("selfie", "numba", "numpy", "torch", "nvidia-dali-cuda130")
SETTINGS = {"backend": "auto", "prefetch": "default"}


def convert(task: Task) -> None:
    """Builds the shards, once."""
    shards(task)


def batches(task: Task) -> Iterator[Any]:
    return run(task, backend="auto")


def run(task: Task, **options: Any) -> Iterator[Any]:
    """Patches of one epoch after another."""
    import torch

    from pipelines import PatchLoader

    torch.set_num_threads(task.threads)
    options = {"antialias": task.quality != "linear", "device": "cpu", "threads": task.threads, **options}
    if task.crops:
        options["area"] = task.area
    loader = PatchLoader(
        shards(task), global_batch_size=task.batch_size, seed=task.seed, dtype=task.dtype, **options
    )
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            yield batch.patches
        epoch += 1
