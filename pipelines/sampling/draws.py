"""What is drawn for every sample: patches, blocks of them, flip and crop, compiled: a fifth of NumPy's time, or less.

Pure functions of (seed, epoch, sample id), whatever batch the sample is in. Integers throughout; where a float is
needed (areas) only + - * / sqrt are used, which IEEE 754 rounds alike on every machine.

    words of a sample = Philox4x32-10(key = seed, counter = (id, epoch, purpose * 2**16 + block))
    patches           = `selection.patch_order`
    flip              = the lowest bit of word 0
    crop              = attempt k uses block k: word 0 the area, 1 the aspect ratio, 2 top, 3 left; the first attempt
                        that fits, else the largest central window with an aspect ratio in [3/4, 4/3], as torchvision
    padded crop       = words 0 and 1: top, left
    blocks            = attempt k uses block k: word 0 the area, 1 the aspect ratio, 2 top, 3 left
    squares           = as patches, of a coarser grid
    multiblock        = attempt k uses blocks k * (M + 2) on: sizes, the context's place, the places of M targets

`tests/twins/draws.py` has the same in NumPy. All kernels stand in this one file and are handed what stands in others:
Numba keeps their machine code for as long as the file that they stand in is unchanged.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, LOWEST
from selfie_data.randomness.philox import Purpose, draw_words

VERSION = 1  # of these definitions and those of selection.py and augment.py; stands in loader states

_BLOCK_ATTEMPTS = 10  # as in BEiT's and I-JEPA's code
_MULTIBLOCK_ATTEMPTS = 1000  # until anything is left to see: `blocks.Multiblock.check` leaves it likely in each
_CROP_ATTEMPTS = 10  # as torchvision; the first fits 60-86 % of common shapes (area 0.2-1 or 0.08-1)
_RATIOS = np.array(ASPECT_RATIOS)
_SQUARED = _RATIOS * _RATIOS
_BLOCK_RATIOS = _SQUARED * _SQUARED  # 0.32-3.16, even on a logarithmic scale; BEiT's code has 0.3-3.33


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _philox(sample: Any, epoch: Any, last: Any, seed: Any) -> Any:
    """Philox4x32-10 of one counter; see `selfie_data.randomness.philox`."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    x0, x1, x2, x3 = sample & low, sample >> half, epoch, last
    key0, key1 = seed & low, seed >> half
    for _ in range(10):
        product0 = x0 * np.uint64(0xD2511F53)
        product1 = x2 * np.uint64(0xCD9E8D57)
        x0 = (product1 >> half) ^ x1 ^ key0
        x2 = (product0 >> half) ^ x3 ^ key1
        x1 = product1 & low
        x3 = product0 & low
        key0 = (key0 + np.uint64(0x9E3779B9)) & low
        key1 = (key1 + np.uint64(0xBB67AE85)) & low
    return x0, x1, x2, x3


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _patches(seed: Any, epoch: Any, ids: Any, purpose: Any, context: int, order: Any, mask: Any) -> None:
    samples, cells = order.shape
    keys = np.empty(cells, np.uint64)
    half = np.uint64(32)
    for row in range(samples):
        for block in range((cells + 3) // 4):
            words = _philox(np.uint64(ids[row]), epoch, purpose + np.uint64(block), seed)
            for number in range(4):
                cell = 4 * block + number
                if cell < cells:
                    keys[cell] = (words[number] << half) | np.uint64(cell)
        for cell in range(cells):  # keys differ, so a key's place is the number of smaller ones: no branch to guess
            place = 0
            for other in range(cells):
                place += keys[other] < keys[cell]
            order[row, place] = cell
            mask[row, cell] = place >= context


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _flips(seed: Any, epoch: Any, ids: Any, purpose: Any, flip: Any) -> None:
    for row in range(len(ids)):
        words = _philox(np.uint64(ids[row]), epoch, purpose, seed)
        flip[row] = words[0] & np.uint64(1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _below(word: Any, bound: int) -> Any:
    return np.int64((word * np.uint64(bound)) >> np.uint64(32))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _crops(
    seed: Any, epoch: Any, ids: Any, purpose: Any, heights: Any, widths: Any, lowest: float, highest: float,
    ratios: Any, narrowest: float, widest: float, crops: Any,
) -> None:  # fmt: skip
    for row in range(len(ids)):
        height, width = heights[row], widths[row]
        for attempt in range(_CROP_ATTEMPTS):
            words = _philox(np.uint64(ids[row]), epoch, purpose + np.uint64(attempt), seed)
            fraction = lowest + (highest - lowest) * (np.float64(words[0]) / 4294967296.0)
            ratio = ratios[_below(words[1], len(ratios))]
            pixels = np.float64(height * width) * fraction
            crop_width = np.int64(np.rint(np.sqrt(pixels * ratio)))
            crop_height = np.int64(np.rint(np.sqrt(pixels / ratio)))
            if 1 <= crop_width <= width and 1 <= crop_height <= height:
                crops[row, 0] = _below(words[2], height - crop_height + 1)
                crops[row, 1] = _below(words[3], width - crop_width + 1)
                break
        else:
            crop_height, crop_width = height, width
            if width / height < narrowest:
                crop_height = np.int64(np.rint(width / narrowest))
            elif width / height > widest:
                crop_width = np.int64(np.rint(height * widest))
            crops[row, 0], crops[row, 1] = (height - crop_height) // 2, (width - crop_width) // 2
        crops[row, 2], crops[row, 3] = crop_height, crop_width


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _blocks(seed: Any, epoch: Any, ids: Any, purpose: Any, count: Any, smallest: int, ratios: Any, hidden: Any) -> None:
    samples, side, _ = hidden.shape
    for row in range(samples):
        cells = hidden[row]
        cells[:] = False
        left_to_hide, block, failed = count, 0, 0
        while left_to_hide > 0:
            words = _philox(np.uint64(ids[row]), epoch, purpose + np.uint64(block), seed)
            block += 1
            if failed == _BLOCK_ATTEMPTS:  # the first cell that is still seen, from a random one on
                cell = _below(words[2], side * side)
                while cells[cell // side, cell % side]:
                    cell = (cell + 1) % (side * side)
                cells[cell // side, cell % side] = True
                left_to_hide -= 1
                continue
            area = smallest + (left_to_hide - smallest) * (np.float64(words[0]) / 4294967296.0)
            ratio = ratios[_below(words[1], len(ratios))]
            height, width = np.int64(np.rint(np.sqrt(area * ratio))), np.int64(np.rint(np.sqrt(area / ratio)))
            failed += 1
            if not (1 <= height < side and 1 <= width < side):
                continue
            top, left = _below(words[2], side - height + 1), _below(words[3], side - width + 1)
            inside = cells[top : top + height, left : left + width]
            new = height * width - np.count_nonzero(inside)
            if 0 < new <= left_to_hide:
                inside[:] = True
                left_to_hide -= new
                failed = 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sides(area: float, ratio: float, side: int) -> Any:
    """Height and width of a block of about `area` cells, height / width = `ratio`; less than the grid's."""
    height, width = np.int64(np.rint(np.sqrt(area * ratio))), np.int64(np.rint(np.sqrt(area / ratio)))
    return max(1, min(height, side - 1)), max(1, min(width, side - 1))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _multiblock(
    seed: Any, epoch: Any, ids: Any, purpose: Any, side: int, context_area: Any, target_area: Any, target_ratio: Any,
    least: int, context: Any, context_valid: Any, target: Any, target_valid: Any,
) -> None:  # fmt: skip
    blocks = target.shape[1]
    taken = np.empty((side, side), np.bool_)
    for row in range(len(ids)):
        for attempt in range(_MULTIBLOCK_ATTEMPTS):
            first = purpose + np.uint64(attempt * (blocks + 2))
            words = _philox(np.uint64(ids[row]), epoch, first, seed)
            shares = (words[0] / 4294967296.0, words[1] / 4294967296.0, words[2] / 4294967296.0)
            height, width = _sides(
                (target_area[0] + (target_area[1] - target_area[0]) * shares[0]) * (side * side),
                target_ratio[0] + (target_ratio[1] - target_ratio[0]) * shares[1],
                side,
            )
            assert height * width <= target.shape[2]  # the property of `blocks.Multiblock.shape`; else memory is lost
            taken[:] = False
            target[row] = 0
            target_valid[row] = False
            for number in range(blocks):
                words = _philox(np.uint64(ids[row]), epoch, first + np.uint64(2 + number), seed)
                top, left = _below(words[0], side - height + 1), _below(words[1], side - width + 1)
                taken[top : top + height, left : left + width] = True
                for down in range(height):
                    for across in range(width):
                        target[row, number, down * width + across] = (top + down) * side + left + across
                target_valid[row, number, : height * width] = True
            area = (context_area[0] + (context_area[1] - context_area[0]) * shares[2]) * (side * side)
            tall, wide = _sides(area, 1.0, side)
            words = _philox(np.uint64(ids[row]), epoch, first + np.uint64(1), seed)
            top, left = _below(words[0], side - tall + 1), _below(words[1], side - wide + 1)
            enough = least
            if attempt >= _BLOCK_ATTEMPTS - 1:  # what no target covers, wherever it is
                top, left, tall, wide, enough = 0, 0, side, side, 1
            if tall * wide - np.count_nonzero(taken[top : top + tall, left : left + wide]) >= enough:
                break
        context[row] = 0
        context_valid[row] = False
        kept = 0
        for down in range(top, top + tall):
            for across in range(left, left + wide):
                if not taken[down, across] and kept < context.shape[1]:
                    context[row, kept] = down * side + across
                    context_valid[row, kept] = True
                    kept += 1


def draw_patches(
    seed: int, epoch: int, ids: NDArray[np.int64], *, cells: int, context: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the cells of every sample in its random order, int64 [B, cells], and the mask, bool [B, cells].

    The first `context` of the order are the context; True in the mask = hidden from the encoder.
    """
    order = np.empty((len(ids), cells), np.int64)
    mask = np.empty((len(ids), cells), np.bool_)
    _patches(np.uint64(seed), np.uint64(epoch), ids, _first_block(Purpose.PATCHES), context, order, mask)
    return order, mask


def draw_blocks(
    seed: int, epoch: int, ids: NDArray[np.int64], *, side: int, count: int, smallest: int
) -> NDArray[np.bool_]:
    """Returns which cells of a side x side grid blocks hide, bool [B, side * side], exactly `count` a sample.

    Blocks of `smallest` cells to as many as are left to hide, of an aspect ratio in 0.32-3.16, are put down until all
    are hidden; those that would hide too many or nothing new are drawn again. After ten in a row single cells follow.
    """
    hidden = np.empty((len(ids), side, side), np.bool_)
    first = _first_block(Purpose.BLOCKS)
    _blocks(np.uint64(seed), np.uint64(epoch), ids, first, count, smallest, _BLOCK_RATIOS, hidden)
    return hidden.reshape(len(ids), side * side)


def draw_squares(
    seed: int, epoch: int, ids: NDArray[np.int64], *, side: int, count: int, square: int
) -> NDArray[np.bool_]:
    """Returns which cells are hidden, bool [B, side * side]: `count` in all, in whole squares of square x square cells.

    `square` divides `side`, and its square `count`.
    """
    coarse = side // square
    order, hidden = np.empty((len(ids), coarse**2), np.int64), np.empty((len(ids), coarse**2), np.bool_)
    seen = coarse**2 - count // square**2
    _patches(np.uint64(seed), np.uint64(epoch), ids, _first_block(Purpose.SQUARES), seen, order, hidden)
    rows = hidden.reshape(len(ids), coarse, coarse).repeat(square, axis=1)
    return rows.repeat(square, axis=2).reshape(len(ids), side * side)


def draw_multiblock(
    seed: int,
    epoch: int,
    ids: NDArray[np.int64],
    *,
    side: int,
    context_area: tuple[float, float],
    target_area: tuple[float, float],
    target_ratio: tuple[float, float],
    least: int,
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns cells of the context [B, C] and of the targets [B, M, T], int64, each with what of it is valid, bool.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: sample ids [B], non-negative.
        side: of the grid, cells.
        context_area: lowest and highest area of the context's square, as a share of the grid.
        target_area: lowest and highest area of a target, as a share of the grid.
        target_ratio: lowest and highest height / width of a target.
        least: cells of the context, below which all is drawn again.
        shape: (C, M, T): most cells of a context, targets, most cells of a target.
    """
    most_context, blocks, most_target = shape
    context, context_valid = np.empty((len(ids), most_context), np.int64), np.empty((len(ids), most_context), np.bool_)
    target = np.empty((len(ids), blocks, most_target), np.int64)
    target_valid = np.empty(target.shape, np.bool_)
    first = _first_block(Purpose.MULTIBLOCK)
    _multiblock(
        np.uint64(seed), np.uint64(epoch), ids, first, side, context_area, target_area, target_ratio, least,
        context, context_valid, target, target_valid,
    )  # fmt: skip
    return context, context_valid, target, target_valid


def draw_flips(seed: int, epoch: int, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which samples are mirrored left to right, bool [B]."""
    flip = np.empty(len(ids), np.bool_)
    _flips(np.uint64(seed), np.uint64(epoch), ids, _first_block(Purpose.FLIP), flip)
    return flip


def draw_crops(
    seed: int,
    epoch: int,
    ids: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    *,
    area: tuple[float, float],
) -> NDArray[np.int64]:
    """Returns a crop window of every sample, int64 [B, 4]: top, left, height, width, pixels of the stored images.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: sample ids [B], non-negative.
        heights: of the stored images, [B], pixels.
        widths: of the stored images, [B], pixels.
        area: lowest and highest area of the window as a fraction of the image's, 0 < lowest <= highest <= 1.
    """
    crops = np.empty((len(ids), 4), np.int64)
    first = _first_block(Purpose.CROP)
    _crops(np.uint64(seed), np.uint64(epoch), ids, first, heights, widths, *area, _RATIOS, LOWEST, HIGHEST, crops)
    return crops


def draw_padded_crops(seed: int, epoch: int, ids: NDArray[np.int64], *, padding: int) -> NDArray[np.int64]:
    """Returns (top, left) of a crop of the image's own size in the image padded on all sides: int64 [B, 2].

    Both are in 0..2 * padding; `padding` in both is the image itself.
    """
    words = draw_words(seed, epoch, ids, Purpose.CROP)[:, :2]
    return ((words.astype(np.uint64) * np.uint64(2 * padding + 1)) >> np.uint64(32)).astype(np.int64)


def _first_block(purpose: Purpose) -> np.uint64:
    """Returns the last word of the counter for block 0 of a purpose."""
    return np.uint64(int(purpose) << 16)
