"""What is drawn for a sample: its patches, flip and crop, as pure functions of (seed, epoch, sample id).

Nothing depends on the batch a sample is in. Integers throughout; where a float is needed (areas) only
+ - * / sqrt are used, which IEEE 754 rounds alike on every machine.

    words of a sample = Philox4x32-10(key = seed, counter = (id, epoch, purpose * 2**16 + block))
    patch order       = cells sorted by (word << 32 | cell): a uniform permutation, ties broken by the cell
    selected cells    = the first context + target of that order, context first
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, INDEX_BITS, LOWEST
from pipelines.sampling.grid import Grid
from selfie_data.randomness.philox import Purpose, draw_words

Cells = NDArray[np.int64]

Selection = Callable[[Cells, Grid], Cells]
"""A rule that picks patches: (order [B, G], grid) -> cells [B, context + target], context first.

`order` is the sample's draw: all cells of the grid in uniformly random order. A rule is a function of it, row by row,
and of nothing else, so what it picks is as reproducible as the draw. `block_targets` is an example. Loader states know
it by its module and `__qualname__`.
"""

_WORDS_PER_BLOCK = 4
CROP_ATTEMPTS = 10
_RATIOS = np.array(ASPECT_RATIOS)
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
        seed: see `patch_order`, as `epoch` and `ids`.
        epoch: ditto.
        ids: ditto.
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

    rule.__qualname__ = f"block_targets(context={context}, height={height}, width={width})"  # stands in loader states
    return rule


def flips(seed: int, epoch: int, ids: ArrayLike) -> NDArray[np.bool_]:
    """Returns which samples are mirrored left to right: bool [B], the lowest bit of word 0."""
    words = draw_words(seed, epoch, ids, Purpose.FLIP)
    return (words[:, 0] & np.uint32(1)).astype(np.bool_)


def padded_crops(seed: int, epoch: int, ids: ArrayLike, padding: int = 4) -> Cells:
    """Returns (top, left) of a crop of the image's own size in the image padded on all sides: int64 [B, 2].

    Both are in 0..2 * padding; `padding` in both is the image itself. Words 0 and 1 of block 0.
    """
    words = draw_words(seed, epoch, ids, Purpose.CROP)[:, :2]
    return _below(words, np.int64(2 * padding + 1))


def random_resized_crops(
    seed: int, epoch: int, ids: ArrayLike, heights: ArrayLike, widths: ArrayLike, *, area: tuple[float, float]
) -> Cells:
    """Returns a crop window of every sample, int64 [B, 4]: top, left, height, width, in the stored image's pixels.

    Attempt k uses block k: word 0 the area, 1 the aspect ratio, 2 top, 3 left. The first of ten attempts that fits is
    taken; if none fits, the largest central window with an aspect ratio in [3/4, 4/3], as torchvision does.

    Args:
        seed: see `patch_order`, as `epoch` and `ids`.
        epoch: ditto.
        ids: ditto.
        heights: of the stored images, [B], pixels.
        widths: ditto.
        area: lowest and highest area of the window as a fraction of the image's, 0 < lowest <= highest <= 1.
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"the area of a crop must be 0 < lowest <= highest <= 1, got {area[0]} and {area[1]}")
    sample_ids = np.asarray(ids)
    height, width = (np.broadcast_to(np.asarray(x, np.int64), sample_ids.shape) for x in (heights, widths))
    windows, fits = _attempt(draw_words(seed, epoch, sample_ids, Purpose.CROP), height, width, area)
    pending = np.flatnonzero(~fits)
    if not pending.size:
        return windows
    words = draw_words(seed, epoch, sample_ids[pending], Purpose.CROP, CROP_ATTEMPTS)
    windows[pending] = _central(height[pending], width[pending])
    for attempt in reversed(range(1, CROP_ATTEMPTS)):  # the earliest that fits is written last
        block = words[:, _WORDS_PER_BLOCK * attempt : _WORDS_PER_BLOCK * (attempt + 1)]
        tried, fits = _attempt(block, height[pending], width[pending], area)
        windows[pending[fits]] = tried[fits]
    return windows


def _attempt(
    words: NDArray[np.uint32], height: Cells, width: Cells, area: tuple[float, float]
) -> tuple[Cells, NDArray[np.bool_]]:
    """One attempt from four words a sample: windows [B, 4] and whether each fits its image [B]."""
    lowest, highest = area
    fraction = lowest + (highest - lowest) * (words[:, 0].astype(np.float64) / 4294967296.0)
    ratio = _RATIOS[words[:, 1] >> np.uint32(32 - INDEX_BITS)]
    pixels = (height * width).astype(np.float64) * fraction
    crop_width = np.rint(np.sqrt(pixels * ratio)).astype(np.int64)
    crop_height = np.rint(np.sqrt(pixels / ratio)).astype(np.int64)
    fits = (crop_width >= 1) & (crop_width <= width) & (crop_height >= 1) & (crop_height <= height)
    top = _below(words[:, 2], np.maximum(height - crop_height + 1, 1))
    left = _below(words[:, 3], np.maximum(width - crop_width + 1, 1))
    return np.stack((top, left, crop_height, crop_width), axis=1), fits


def _central(height: Cells, width: Cells) -> Cells:
    """The largest central window with an aspect ratio in [3/4, 4/3], [B, 4]."""
    ratio = width / height
    crop_height = np.where(ratio < LOWEST, np.rint(width / LOWEST).astype(np.int64), height)
    crop_width = np.where(ratio > HIGHEST, np.rint(height * HIGHEST).astype(np.int64), width)
    return np.stack(((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width), axis=1)


def _below(words: NDArray[np.uint32], bound: np.int64 | Cells) -> Cells:
    """Scales 32-bit words to [0, bound): multiply and shift, off uniform by less than bound / 2**32."""
    return ((words.astype(np.uint64) * np.asarray(bound).astype(np.uint64)) >> _HALF).astype(np.int64)


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
