"""SPDL: a pipeline of threads; each call makes a whole batch, since simplejpeg and the resizes release the GIL.

Source: facebookresearch.github.io/spdl (PipelineBuilder; aggregate first, decode by batch in a thread pool).
"""

from collections.abc import Iterator

import numpy as np
import torch
from spdl.pipeline import PipelineBuilder

from benchmarks.peers.cut import fetch, make_batch, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("spdl", "spdl_core", "torch", "numpy", "simplejpeg", "opencv-python-headless")
SETTINGS = {"threads": "one a core", "buffer": 2, "stage": "whole batches"}


def convert(task: Task) -> None:
    """Nothing to convert: SPDL reads what it is given."""


def batches(task: Task) -> Iterator[torch.Tensor]:
    one_thread()
    packed = load(task.source)

    def indices() -> Iterator[tuple[int, list[int]]]:
        rng = np.random.default_rng(task.seed)
        number = 0
        while True:
            order = rng.permutation(len(packed))
            for start in range(0, len(packed) - task.batch_size + 1, task.batch_size):
                number += 1
                yield number, order[start : start + task.batch_size].tolist()

    def make(item: tuple[int, list[int]]) -> torch.Tensor:
        number, chosen = item
        rng = np.random.default_rng((task.seed, number))
        return make_batch(fetch(packed, chosen, task), task, rng)

    pipeline = (
        PipelineBuilder()
        .add_source(indices())
        .pipe(make, concurrency=task.threads)
        .add_sink(2)
        .build(num_threads=task.threads)
    )
    with pipeline.auto_stop():
        yield from pipeline
