"""Which cells of the grid are context and which are target: the order that is drawn, and rules that pick from it.

A pure function of (seed, epoch, sample id), whatever batch the sample is in; integers throughout.

    words of a sample = Philox4x32-10(key = seed, counter = (id, epoch, purpose * 2**16 + block))
    patch order       = cells sorted by (word << 32 | cell): a uniform permutation, ties broken by the cell
    selected cells    = the first context + target of that order, context first

NumPy alone, which is all that a preview needs: it starts in half the time that Numba's import takes. Loaders that have
no rule of their own take the same order from `draws.draw_patches`.
"""

from collections.abc import Callable
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.sampling.grid import Grid
from selfie_data.randomness.philox import Purpose, draw_words

Cells = NDArray[np.int64]
SelectionName = Literal["random", "blocks", "squares", "multiblock"]
NAMES: Final[tuple[SelectionName, ...]] = get_args(SelectionName)  # what each is: `blocks`

Selection = Callable[[Cells, Grid], Cells]
"""A rule that picks patches: (order [B, G], grid) -> cells [B, context + target], context first.

`order` is the sample's draw: all cells of the grid in uniformly random order. A rule is a function of it, row by row,
and of nothing else, so what it picks is as reproducible as the draw. `block_targets` is an example. Loader states know
it by its module and `__qualname__`.
"""

_WORDS_PER_BLOCK = 4  # that one Philox call gives
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def patch_order(seed: int, epoch: int, ids: ArrayLike, cells: int) -> Cells:
    """Returns the cells of every sample in its random order: int64 [B, cells], each row a permutation.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: sample ids [B], non-negative.
        cells: cells of the grid, G.
    """
    words = draw_words(seed, epoch, ids, Purpose.PATCHES, -(-cells // _WORDS_PER_BLOCK))
    keys = words[:, :cells].astype(np.uint64)
    keys <<= _HALF
    keys |= np.arange(cells, dtype=np.uint64)
    keys.sort(axis=1)
    keys &= _LOW
    return keys.view(np.int64)


def select_cells(
    seed: int, epoch: int, ids: ArrayLike, grid: Grid, *, context: int, target: int, selection: Selection | None = None
) -> Cells:
    """Returns the cells of every sample's patches, int64 [B, context + target], context first.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: sample ids [B], non-negative.
        grid: the grid the cells belong to.
        context: patches the encoder sees.
        target: patches to put back.
        selection: the user's own rule; None takes the first of the order.

    Raises:
        ValueError: the numbers do not fit the grid, or the rule returned something else than distinct cells.
    """
    if context < 1 or target < 1 or context + target > grid.cells:
        raise ValueError(
            f"context and target must be at least 1 and together at most {grid.cells} patches, got {context} + {target}"
        )
    order = patch_order(seed, epoch, ids, grid.cells)
    if selection is None:
        return order[:, : context + target]
    return _checked(selection(order, grid), rows=len(order), count=context + target, cells=grid.cells)


def hidden_mask(context_cells: Cells, cells: int) -> NDArray[np.bool_]:
    """Returns bool [B, cells], True = hidden from the encoder: every cell that is not context."""
    mask = np.ones((len(context_cells), cells), dtype=np.bool_)
    np.put_along_axis(mask, context_cells, False, axis=1)
    return mask


def block_targets(*, context: int, height: int, width: int) -> Selection:
    """Returns a rule whose targets are one block of height x width cells, its place uniform over the grid.

    The context is the first `context` cells of the order that are outside the block; the targets are in row order.
    """

    def rule(order: Cells, grid: Grid) -> Cells:
        if context + height * width > grid.cells or max(height, width) > grid.side:
            raise ValueError(
                f"{context} context cells and a block of {height} x {width} do not fit {grid.side} x {grid.side}"
            )
        row, column = np.divmod(order, grid.side)
        # The first cell of the order that can be a block's upper left corner is uniform among all that can.
        corner = np.argmax((row <= grid.side - height) & (column <= grid.side - width), axis=1)[:, None]
        top, left = np.take_along_axis(row, corner, 1), np.take_along_axis(column, corner, 1)
        inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
        outside_first = np.argsort(inside, axis=1, kind="stable")
        cells = np.take_along_axis(order, outside_first, 1)
        # Row order: in the order of the draw the corner would most often come first and so be known.
        targets = np.sort(cells[:, grid.cells - height * width :], axis=1)
        return np.concatenate((cells[:, :context], targets), axis=1)

    # Both stand in loader states: the module is where the function was when the first states were written.
    rule.__module__ = "pipelines.draws"
    rule.__qualname__ = f"block_targets(context={context}, height={height}, width={width})"
    return rule


def _checked(chosen: Cells, *, rows: int, count: int, cells: int) -> Cells:
    chosen = np.asarray(chosen)
    if chosen.shape != (rows, count) or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(
            f"a selection must return integers [{rows}, {count}], context first, got {chosen.dtype} {chosen.shape}"
        )
    ordered = np.sort(chosen, axis=1)
    if ordered.size and (ordered.min() < 0 or ordered.max() >= cells or (ordered[:, 1:] == ordered[:, :-1]).any()):
        raise ValueError(f"a selection must return distinct cells in [0, {cells}) for every sample")
    return chosen.astype(np.int64, copy=False)
