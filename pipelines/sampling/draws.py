"""What is drawn for every sample: its patches, its flip and its crop, compiled: a fifth of NumPy's time, or less.

Pure functions of (seed, epoch, sample id), whatever batch the sample is in. Integers throughout; where a float is
needed (areas) only + - * / sqrt are used, which IEEE 754 rounds alike on every machine.

    words of a sample = Philox4x32-10(key = seed, counter = (id, epoch, purpose * 2**16 + block))
    patches           = `selection.patch_order`
    flip              = the lowest bit of word 0
    crop              = attempt k uses block k: word 0 the area, 1 the aspect ratio, 2 top, 3 left; the first attempt
                        that fits, else the largest central window with an aspect ratio in [3/4, 4/3], as torchvision
    padded crop       = words 0 and 1: top, left

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

_CROP_ATTEMPTS = 10  # as torchvision; the first fits 60-86 % of common shapes (area 0.2-1 or 0.08-1)
_RATIOS = np.array(ASPECT_RATIOS)


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
