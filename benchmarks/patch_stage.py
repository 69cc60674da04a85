"""The patch stage alone: images in memory -> flipped patches in a given order, beside a copy of the same bytes.

    python -m benchmarks patch-stage

uint8, images and draws made beforehand, one thread, so that ways are compared and not machines. `selfie` is the pixel
store's loader, which does nothing else but also draws, so it shows what a user gets.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.ours import loader as ours
from benchmarks.work import material
from benchmarks.work.task import Task, rows
from pipelines.sampling.grid import patchify

QUESTION = "patch_stage"
WINDOW_S = 0.4
GEOMETRIES = {"32 px": ("raw32", 512), "224 px": ("jpeg256-antialiased", 64)}  # row of the loader's table, batch


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures both geometries; the store exists at 32 px only."""
    del threads
    records: list[Record] = []
    for case, (row, batch) in GEOMETRIES.items():
        task = rows(scratch, threads=1, dtype="uint8")[row]
        measures = ways(task, batch)
        if not task.encoded:
            material.prepare(task.material, scratch, images=images)
            measures["selfie, store"] = partial(_per_second, _store(task))
        values = interleaved(measures, rounds, title=case)
        settings = {"batch": batch, "dtype": "uint8", "threads": 1}
        for name, runs in values.items():
            records.append(
                record(
                    QUESTION,
                    case,
                    name,
                    runs,
                    unit="images/s",
                    settings=settings,
                    versions=versions(["numpy", "torch"]),
                )
            )
            if name != "ceiling: copy":
                pairs = pair_ratios(runs, values["ceiling: copy"])
                records.append(record(QUESTION, case, f"{name} / copy", pairs, unit="ratio"))
    return records


def ways(task: Task, batch: int) -> dict[str, Callable[[], float]]:
    """Plain ways to cut patches, and the copy that bounds them."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, task.image_size, task.image_size, 3), dtype=np.uint8)
    order = rng.random((batch, task.cells)).argsort(axis=1)
    mirrored = rng.random(batch) < 0.5
    out = np.empty_like(pixels)
    calls: dict[str, Callable[[], object]] = {
        "ceiling: copy": partial(np.copyto, out, pixels),
        "numpy": partial(_numpy, pixels, order, mirrored, task.patch_size),
        "torch": partial(_torch, torch.from_numpy(pixels), torch.from_numpy(order), torch.from_numpy(mirrored), task),
    }
    return {name: partial(_per_second, _counted(call, batch)) for name, call in calls.items()}


def _numpy(pixels: NDArray[np.uint8], order: NDArray[np.int64], mirrored: NDArray[np.bool_], patch: int) -> object:
    flipped = pixels.copy()
    flipped[mirrored] = flipped[mirrored, :, ::-1]
    cells = patchify(flipped, patch)
    return np.take_along_axis(cells, order[:, :, None, None, None], axis=1)


def _torch(pixels: torch.Tensor, order: torch.Tensor, mirrored: torch.Tensor, task: Task) -> torch.Tensor:
    patch, side = task.patch_size, task.image_size // task.patch_size
    flipped = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
    grid = flipped.view(len(pixels), side, patch, side, patch * 3).transpose(2, 3)
    flat = grid.reshape(-1, patch * patch * 3)
    rows = torch.arange(len(pixels))[:, None] * side * side
    return flat.index_select(0, (order + rows).flatten())


def _store(task: Task) -> Callable[[], int]:
    from benchmarks.work.dataset import store

    stream = ours.run(task, backend="store", store=store(task))
    return lambda: len(next(stream))


def _counted(call: Callable[[], object], images: int) -> Callable[[], int]:
    def step() -> int:
        call()
        return images

    return step


def _per_second(step: Callable[[], int]) -> float:
    """Images a second over one window."""
    start, images = perf_counter(), 0
    while (elapsed := perf_counter() - start) < WINDOW_S or not images:
        images += step()
    return images / elapsed
