"""This project: shards built by `selfie_data` from the same bytes, read by `pipelines.PatchLoader` on the CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.work.dataset import shards
from benchmarks.work.task import MEAN, STD, Masked, Task
from pipelines.normalise import Normalisation

PACKAGES = ("selfie", "numba", "numpy", "torch", "nvidia-dali-cuda130")
SETTINGS = {"backend": "auto", "prefetch": "default"}


def convert(task: Task) -> None:
    """Builds the shards, once."""
    shards(task)


def batches(task: Task) -> Iterator[Any]:
    return run(task, backend="auto")


def run(task: Task, **options: Any) -> Iterator[Any]:
    """Batches of one epoch after another; the crop's area is that of the loader's own pretraining preset."""
    import torch

    from pipelines import PatchLoader

    torch.set_num_threads(task.threads)
    if task.visible:
        options |= {"patch_size": task.patch_size, "context": task.visible, "target": task.cells - task.visible}
    scale = np.reciprocal(np.array(STD, np.float32))
    loader = PatchLoader(
        shards(task),
        global_batch_size=task.batch_size,
        seed=task.seed,
        dtype=task.dtype,
        device="cpu",
        threads=task.threads,
        antialias=task.quality != "linear",
        normalisation=Normalisation(scale=scale, bias=-np.array(MEAN, np.float32) * scale),
        rank=task.rank,
        world_size=task.ranks,
        **options,
    )
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            if task.visible:
                yield Masked(
                    visible=batch.context,
                    visible_position=batch.context_position,
                    patches=batch.patches,
                    position=batch.position,
                    mask=batch.mask,
                )
            else:
                yield batch.patches
        epoch += 1
