"""How fast are selections drawn? One core, 14 x 14 cells: images a second of processor time.

python -m benchmarks selections
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from pipelines.sampling.blocks import Blocks, Multiblock, Squares
from pipelines.sampling.draws import draw_patches
from pipelines.sampling.grid import Grid

QUESTION = "selections"
GRID = Grid(image_size=224, patch_size=16)
IDS = np.arange(4096)
DRAWS: dict[str, Callable[[int], object]] = {
    "random, 147 of 196 hidden (MAE)": lambda epoch: draw_patches(0, epoch, IDS, cells=GRID.cells, context=49),
    "blocks, 75 of 196 hidden (BEiT)": lambda epoch: Blocks().hidden(0, epoch, IDS, GRID, 75),
    "blocks, 147 of 196 hidden": lambda epoch: Blocks().hidden(0, epoch, IDS, GRID, 147),
    "squares, 120 of 196 hidden (SimMIM)": lambda epoch: Squares().hidden(0, epoch, IDS, GRID, 120),
    "multiblock (I-JEPA)": lambda epoch: Multiblock().draw(0, epoch, IDS, GRID),
}


def run(*, rounds: int) -> list[Record]:
    """Measures every selection."""
    for draw in DRAWS.values():
        draw(0)
    values = interleaved({name: partial(_rate, draw) for name, draw in DRAWS.items()}, rounds, title=QUESTION)
    settings = {"cells": GRID.cells, "ids a call": len(IDS), "threads": 1}
    return [
        record(
            QUESTION,
            "14 x 14 cells",
            name,
            runs,
            unit="draws/s of processor time",
            settings=settings,
            versions=versions(["numpy", "numba"]),
        )
        for name, runs in values.items()
    ]


def _rate(draw: Callable[[int], object]) -> float:
    start = time.process_time()
    for epoch in range(5):
        draw(epoch)
    return 5 * len(IDS) / (time.process_time() - start)
