"""Choosing which patches are hidden: a whole block of the grid, or a rule of one's own, instead of a random quarter.

    python examples/own_selection.py SHARDS

A rule gets every sample's cells in a drawn order and returns them rearranged, context first. Being a function of that
order and of nothing else, it is as reproducible as the draw, and a run with it resumes like any other.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from pipelines.sampling.grid import Grid
from pipelines.sampling.selection import Selection, block_targets


def inner_targets(order: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
    """Targets from inside the grid's border: the drawn order, with the inner cells moved to its end."""
    row, column = np.divmod(order, grid.side)
    inner = (np.minimum(row, column) > 0) & (np.maximum(row, column) < grid.side - 1)
    return np.take_along_axis(order, np.argsort(inner, axis=1, kind="stable"), axis=1)


def drawing(batch: PatchBatch, side: int) -> str:
    """Returns the grid of the first image in text, # where a patch is hidden."""
    hidden = batch.mask[0].view(side, side).tolist()
    return "\n".join("  " + " ".join("#" if cell else "." for cell in row) for row in hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    shards = parser.parse_args().shards

    rules: list[tuple[str, Selection, int | None]] = [
        ("a block", block_targets(context=10, height=2, width=2), 10),  # the other cells are in neither
        ("inside the border", inner_targets, None),  # None: all cells that are not target
    ]
    for name, rule, context in rules:
        with PatchLoader(
            shards, global_batch_size=8, seed=1, context=context, target=4, selection=rule, whole_image=True
        ) as loader:
            batch = next(iter(loader))
        assert batch.image is not None  # whole_image=True gives the pictures too, with hidden patches zero
        dark = (batch.image == 0).all(dim=-1).float().mean()
        print(f"{name}: {len(batch)} images, {dark:.0%} of their pixels hidden\n{drawing(batch, loader.grid.side)}")


if __name__ == "__main__":
    main()
