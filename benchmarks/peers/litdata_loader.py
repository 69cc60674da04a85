"""LitData: `optimize`d chunks, `StreamingDataset` shuffled, `StreamingDataLoader`, decoding by batch in the collate.

Source: the project's README (optimize, StreamingDataset, StreamingDataLoader). Its JPEG serializer decodes with Pillow
or torchvision; bytes and simplejpeg are faster.
"""

import shutil
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.cache import Cache

from benchmarks.peers.cut import make_batch, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("litdata", "torch", "numpy", "simplejpeg", "opencv-python-headless")
SETTINGS = {"workers": "one a core", "chunk_bytes": "64MB", "items": "bytes", "collate": "whole batches"}


def convert(task: Task) -> None:
    """Chunks of 64 MB of plain bytes."""
    folder = task.converted("litdata")
    if (folder / "index.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    packed = load(task.source)
    cache = Cache(str(folder), chunk_bytes="64MB")
    for index in range(len(packed)):
        cache[index] = {"image": packed.payload(index).tobytes()}
    cache.done()
    cache.merge()


def batches(task: Task) -> Iterator[torch.Tensor]:
    one_thread()
    images = StreamingDataset(str(task.converted("litdata")), shuffle=True, drop_last=True, seed=task.seed)
    loader = StreamingDataLoader(
        images,
        batch_size=task.batch_size,
        num_workers=task.threads,
        persistent_workers=True,
        collate_fn=partial(_collate, task=task),
        prefetch_factor=2,
    )
    while True:
        yield from loader


def _collate(samples: list[dict[str, bytes]], task: Task) -> torch.Tensor:
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    torch.set_num_threads(1)
    return make_batch([sample["image"] for sample in samples], task, rng)
