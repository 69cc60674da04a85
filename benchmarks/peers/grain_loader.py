"""Grain over ArrayRecord: a `MapDataset` whose items are shuffled batches, made whole in worker processes.

Source: google-grain.readthedocs.io (ArrayRecord with `group_size:1` for random access, batched reads of a data
source, `mp_prefetch` for Python work that holds the interpreter).
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from array_record.python.array_record_module import ArrayRecordWriter

from benchmarks.peers.cut import make_batch, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("grain", "array_record", "torch", "numpy", "simplejpeg", "opencv-python-headless")
SETTINGS = {"workers": "one a core", "group_size": 1, "read": "by whole batches, in one call"}


def convert(task: Task) -> None:
    """One ArrayRecord file."""
    path = task.converted("arrayrecord")
    if path.exists():
        return
    packed = load(task.source)
    temporary = path.with_suffix(".partial")
    writer = ArrayRecordWriter(str(temporary), "group_size:1")
    for index in range(len(packed)):
        writer.write(packed.payload(index).tobytes())
    writer.close()
    os.replace(temporary, path)


def batches(task: Task) -> Iterator[torch.Tensor]:
    import grain
    from absl import flags

    flags.FLAGS(["benchmark"], known_only=True)  # grain reads absl flags, which a program must parse first

    images = (
        grain.MapDataset.source(_Batches(task))
        .repeat()
        .map(_Batch(task))
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=2))
        .mp_prefetch(grain.MultiprocessingOptions(num_workers=task.threads, per_worker_buffer_size=2))
    )
    return (torch.from_numpy(batch) for batch in images)


class _Batches:
    """Shuffled batches as items: ArrayRecord reads many records in one call six times as fast as one by one."""

    def __init__(self, task: Task) -> None:
        import grain

        self.batch = task.batch_size
        self.records = grain.sources.ArrayRecordDataSource(str(task.converted("arrayrecord")))
        self.order = np.random.default_rng(task.seed).permutation(len(self.records))

    def __len__(self) -> int:
        return len(self.order) // self.batch

    def __getitem__(self, index: int) -> Any:
        first = index % len(self) * self.batch
        return self.records.__getitems__(self.order[first : first + self.batch].tolist())


class _Batch:
    """Picklable, and with a generator of its own in every worker."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rng: np.random.Generator | None = None

    def __call__(self, payloads: Any) -> Any:
        if self.rng is None:
            one_thread()
            self.rng = np.random.default_rng((self.task.seed, os.getpid()))
        return make_batch(payloads, self.task, self.rng).numpy()
