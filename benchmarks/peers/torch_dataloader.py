"""torch.utils.data.DataLoader over the packed images: batches fetched whole (`__getitems__`), persistent workers.

Source: pytorch.org/docs/stable/data.html (map-style data sets, `persistent_workers`, `prefetch_factor`).
For a masked autoencoder the mask is drawn after the workers, where the model is.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.cut import fetch, make_batch, masked, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Masked, Task

PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "opencv-python-headless")
SETTINGS = {"workers": "one a core", "prefetch_factor": 2, "persistent_workers": True, "storage": "one packed file"}


class _Images(Dataset[torch.Tensor]):
    def __init__(self, task: Task) -> None:
        self.task = task
        self.packed = load(task.source)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        rng = np.random.default_rng((self.task.seed, indices[0], torch.initial_seed()))
        return make_batch(fetch(self.packed, indices, self.task), self.task, rng)


class _EndlessBatches:
    """Index batches of one shuffled epoch after another, so that workers never idle between epochs."""

    def __init__(self, task: Task, size: int) -> None:
        self.task = task
        self.size = size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.task.seed)
        batch = self.task.batch_size
        while True:
            order = rng.permutation(self.size)
            for start in range(0, self.size - batch + 1, batch):
                yield order[start : start + batch].tolist()


def convert(task: Task) -> None:
    """Nothing to convert: the packed file is as fast as files can be."""


def batches(task: Task) -> Iterator[torch.Tensor | Masked]:
    images = _Images(task)
    loader = DataLoader(
        images,
        batch_sampler=_EndlessBatches(task, len(images)),
        num_workers=task.threads,
        prefetch_factor=2,
        persistent_workers=True,
        collate_fn=_as_is,
        worker_init_fn=_start,
    )
    for patches in loader:
        yield masked(patches, task) if task.visible else patches


def _as_is(batch: Any) -> Any:
    return batch


def _start(worker: int) -> None:
    del worker
    one_thread()
