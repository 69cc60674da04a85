"""DALI's decoder alone, and the graph that `dali_resize` measures with crop and resize.

The encoded bytes come from memory, so that nothing but decoding is measured. Yields batches of which only the length
counts. The crop windows are random and drawn by the batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.floors.cached import stand_in
from benchmarks.peers.cut import window
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "numpy")
SETTINGS = {"what": "DALI decoder alone", "threads": "one a core", "prefetch_queue_depth": 2}


def convert(task: Task) -> None:
    """Nothing to convert."""


def batches(task: Task) -> Iterator[NDArray[np.generic]]:
    return run(task, cropped=False)


def run(task: Task, *, cropped: bool) -> Iterator[NDArray[np.generic]]:
    """Endless stand-in batches, each paid for with one run of the graph."""
    from nvidia.dali import fn, pipeline_def, types

    packed = load(task.source)
    rng = np.random.default_rng(task.seed)

    def feed() -> list[list[NDArray[Any]]]:
        chosen = rng.integers(0, len(packed), task.batch_size).tolist()
        boxes = [window(int(packed.height[i]), int(packed.width[i]), task.area, rng) for i in chosen]
        anchors = [np.array(box[:2], np.int32) for box in boxes]
        shapes = [np.array(box[2:], np.int32) for box in boxes]
        return [[np.asarray(packed.payload(index)) for index in chosen], anchors, shapes]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=task.batch_size, num_threads=task.threads, device_id=None, prefetch_queue_depth=2
    )
    def graph() -> Any:
        stored, anchor, shape = fn.external_source(feed, num_outputs=3, batch=True)
        if not cropped:
            return fn.decoders.image(stored, device="cpu")
        part = fn.decoders.image_slice(
            stored, anchor, shape, axes=[0, 1], device="cpu", normalized_anchor=False, normalized_shape=False
        )
        size = [task.image_size, task.image_size]
        antialias = task.quality == "antialiased"
        return fn.resize(part, size=size, interp_type=types.INTERP_LINEAR, antialias=antialias)

    pipeline = graph()
    pipeline.build()
    answer = stand_in(task)
    while True:
        pipeline.run()
        yield answer
