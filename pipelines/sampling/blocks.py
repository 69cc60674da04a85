"""Selections that other masked-image methods use, by name: blocks, squares, and several blocks that may overlap.

    "random"       `None`: context and target from one uniform order (Selfie; MAE hides 75 % so)
    "blocks"       `Blocks()`: rectangles until as many cells are hidden as there are to be targets (BEiT)
    "squares"      `Squares()`: whole squares of cells, as if the grid were coarser (SimMIM)
    "multiblock"   `Multiblock()`: a square of context and several target blocks, cut out of it (I-JEPA)

Each is a pure function of (seed, epoch, sample id), drawn in `draws`. What differs from the published code:

- BEiT stops after ten attempts in vain, with fewer hidden cells than asked for; here single cells follow, so that every
  image of a batch hides as many.
- I-JEPA draws the blocks' sizes once a batch and cuts every index set to the shortest of the batch. Here each image has
  sizes of its own, nothing is cut, and what an image lacks of the longest possible set is padding, said to be none by a
  mask. Its blocks never reach the last row or column of places (the upper bound of a draw is left out); here they do.

Sources: Bao et al., "BEiT", arXiv 2106.08254, algorithm 1; Xie et al., "SimMIM", arXiv 2111.09886, section 3.2;
Assran et al., "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", arXiv 2301.08243,
section 4 and appendix A.
"""

from dataclasses import dataclass
from math import floor, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.draws import draw_blocks, draw_multiblock, draw_squares
from pipelines.sampling.grid import Grid
from pipelines.sampling.selection import NAMES

_MOST_TARGETS = 60  # a purpose has words for so many, a thousand times
Ids = NDArray[np.int64]
Range = tuple[float, float]


class CellSets(NamedTuple):
    """Which cells the encoders of `Multiblock` see, padded to equal lengths; padding is cell 0 where not valid.

    Attributes:
        context: [B, C] int64, rising.
        context_valid: [B, C] bool.
        target: [B, M, T] int64, a target block a row, row by row of the grid.
        target_valid: [B, M, T] bool.
    """

    context: NDArray[np.int64]
    context_valid: NDArray[np.bool_]
    target: NDArray[np.int64]
    target_valid: NDArray[np.bool_]

    def hidden(self, cells: int) -> NDArray[np.bool_]:
        """Returns bool [B, cells], True = not in the context."""
        mask = np.ones((len(self.context), cells), np.bool_)
        rows, places = np.nonzero(self.context_valid)
        mask[rows, self.context[rows, places]] = False
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Rectangles of an aspect ratio in 0.32-3.16 hide exactly `target` cells; the context is all the rest.

    Attributes:
        smallest: cells of a block at least, as it is drawn; where fewer are left to hide, blocks become smaller. None =
            8 % of the grid: BEiT's 16 of 14 x 14.
    """

    smallest: int | None = None

    def __post_init__(self) -> None:
        if self.smallest is not None and self.smallest < 1:
            raise ValueError(f"smallest must be at least 1 cell, got {self.smallest}")

    def hidden(self, seed: int, epoch: int, ids: Ids, grid: Grid, target: int) -> NDArray[np.bool_]:
        """Returns bool [B, G], True = hidden."""
        smallest = max(1, round(0.08 * grid.cells)) if self.smallest is None else self.smallest
        return draw_blocks(seed, epoch, ids, side=grid.side, count=target, smallest=smallest)

    def check(self, grid: Grid, target: int) -> None:
        """Raises a ValueError where nothing can be drawn; every grid will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """Whole squares of `side` x `side` cells, uniformly chosen, hide exactly `target` cells; the context is the rest.

    Attributes:
        side: of a square, cells; SimMIM hides squares of 32 px.
    """

    side: int = 2

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"side must be at least 1 cell, got {self.side}")

    def hidden(self, seed: int, epoch: int, ids: Ids, grid: Grid, target: int) -> NDArray[np.bool_]:
        """Returns bool [B, G], True = hidden."""
        return draw_squares(seed, epoch, ids, side=grid.side, count=target, square=self.side)

    def check(self, grid: Grid, target: int) -> None:
        """Raises a ValueError where the squares do not fit the grid or the number to hide."""
        if grid.side % self.side or target % self.side**2:
            raise ValueError(
                f"squares of {self.side} x {self.side} cells must fit the grid's {grid.side} x {grid.side}, and "
                f"target be a multiple of {self.side**2}, got {target}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiblock:
    """Several target blocks of one size an image, which may overlap, and a square of context without their cells.

    Areas are shares of the grid; sizes are uniform in their ranges, places uniform over the grid.

    Attributes:
        targets: M, blocks an image.
        target_area: of a block.
        target_ratio: height / width of a block.
        context_area: of the square, before the targets are cut out of it.
        least: cells of the context, below which the image's blocks are drawn again; from the tenth draw on the context
            is what no target covers, wherever it is, up to the most that a context can have.
    """

    targets: int = 4
    target_area: Range = (0.15, 0.2)
    target_ratio: Range = (0.75, 1.5)
    context_area: Range = (0.85, 1.0)
    least: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.targets <= _MOST_TARGETS or self.least < 1:
            raise ValueError(
                f"targets must be 1-{_MOST_TARGETS} and least at least 1, got {self.targets} and {self.least}"
            )
        for name in ("target_area", "target_ratio", "context_area"):
            low, high = getattr(self, name)
            if not (0 < low <= high and (high <= 1 or name == "target_ratio")):
                raise ValueError(f"{name} must be a rising range above 0, of areas at most 1, got ({low:g}, {high:g})")

    def check(self, grid: Grid) -> None:
        """Raises a ValueError where the targets leave too little to see: more cells than twice the grid's, together."""
        _, targets, most = self.shape(grid)
        if grid.side < 2 or targets * most >= 2 * grid.cells:
            raise ValueError(
                f"{targets} target blocks of up to {most} cells leave too little of {grid.side} x {grid.side} to see: "
                "together they may have less than twice the grid's cells"
            )

    def shape(self, grid: Grid) -> tuple[int, int, int]:
        """Returns (C, M, T): the most cells of a context, the targets, the most cells of a target."""
        square = min(_rounded(sqrt(self.context_area[1] * grid.cells)), grid.side - 1)
        return square**2, self.targets, self._most_of_target(grid)

    def draw(self, seed: int, epoch: int, ids: Ids, grid: Grid) -> CellSets:
        """Returns the cells of every sample; ids [B] int64."""
        drawn = draw_multiblock(
            seed,
            epoch,
            ids,
            side=grid.side,
            context_area=self.context_area,
            target_area=self.target_area,
            target_ratio=self.target_ratio,
            least=self.least,
            shape=self.shape(grid),
        )
        return CellSets(*drawn)

    def _most_of_target(self, grid: Grid) -> int:
        """A block of a given height is widest where the area is largest and the ratio the least that gives it."""
        area, (lowest, highest) = self.target_area[1] * grid.cells, self.target_ratio
        tallest = max(1, _rounded(sqrt(area * highest)))
        ratios = (max(lowest, (height - 0.5) ** 2 / area if height > 1 else 0) for height in range(1, tallest + 1))
        widths = (max(1, _rounded(sqrt(area / ratio))) for ratio in ratios)
        longest = grid.side - 1
        return max(min(height, longest) * min(width, longest) for height, width in enumerate(widths, start=1))


RECORDS: Final = (Blocks, Squares, Multiblock)


def _rounded(value: float) -> int:
    """Halves up: never less than what the kernel rounds to."""
    return floor(value + 0.5)


def named_selection(name: str) -> Blocks | Squares | Multiblock | None:
    """Returns the rule of a name with its defaults; None for `random`.

    Raises:
        ValueError: there is none of this name.
    """
    match name:
        case "random":
            return None
        case "blocks":
            return Blocks()
        case "squares":
            return Squares()
        case "multiblock":
            return Multiblock()
    raise ValueError(f"selection must be one of {', '.join(NAMES)}, a record of them or a function, got {name!r}")
