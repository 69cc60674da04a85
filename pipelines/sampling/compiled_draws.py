"""The draws of `draws.py` that every sample needs, compiled: a fifth of the time that NumPy takes, or less.

`patch_draws` gives `draws.patch_order` and `draws.hidden_mask`, `flip_draws` gives `draws.flips`, `crop_draws` gives
`draws.random_resized_crops`, to the bit; those are the definitions, and tests hold these to them.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, INDEX_BITS, LOWEST
from pipelines.sampling.draws import CROP_ATTEMPTS
from selfie_data.randomness.philox import Purpose

_RATIOS = np.array(ASPECT_RATIOS)
_RATIO_SHIFT = np.uint64(32 - INDEX_BITS)


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
    ratios: Any, crops: Any,
) -> None:  # fmt: skip
    for row in range(len(ids)):
        height, width = heights[row], widths[row]
        for attempt in range(CROP_ATTEMPTS):
            words = _philox(np.uint64(ids[row]), epoch, purpose + np.uint64(attempt), seed)
            fraction = lowest + (highest - lowest) * (np.float64(words[0]) / 4294967296.0)
            ratio = ratios[words[1] >> _RATIO_SHIFT]
            pixels = np.float64(height * width) * fraction
            crop_width = np.int64(np.rint(np.sqrt(pixels * ratio)))
            crop_height = np.int64(np.rint(np.sqrt(pixels / ratio)))
            if 1 <= crop_width <= width and 1 <= crop_height <= height:
                crops[row, 0] = _below(words[2], height - crop_height + 1)
                crops[row, 1] = _below(words[3], width - crop_width + 1)
                break
        else:
            crop_height, crop_width = height, width
            if width / height < LOWEST:
                crop_height = np.int64(np.rint(width / LOWEST))
            elif width / height > HIGHEST:
                crop_width = np.int64(np.rint(height * HIGHEST))
            crops[row, 0], crops[row, 1] = (height - crop_height) // 2, (width - crop_width) // 2
        crops[row, 2], crops[row, 3] = crop_height, crop_width


def patch_draws(
    seed: int, epoch: int, ids: NDArray[np.int64], *, cells: int, context: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the cells of every sample in its random order, int64 [B, cells], and the mask, bool [B, cells].

    The first `context` of the order are the context; True in the mask = hidden from the encoder.
    """
    order = np.empty((len(ids), cells), np.int64)
    mask = np.empty((len(ids), cells), np.bool_)
    purpose = np.uint64(int(Purpose.PATCHES) << 16)
    _patches(np.uint64(seed), np.uint64(epoch), ids, purpose, context, order, mask)
    return order, mask


def flip_draws(seed: int, epoch: int, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which samples are mirrored, bool [B]."""
    flip = np.empty(len(ids), np.bool_)
    _flips(np.uint64(seed), np.uint64(epoch), ids, np.uint64(int(Purpose.FLIP) << 16), flip)
    return flip


def crop_draws(
    seed: int,
    epoch: int,
    ids: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    *,
    area: tuple[float, float],
) -> NDArray[np.int64]:
    """Returns a crop window of every sample, int64 [B, 4]: top, left, height, width, pixels of the stored images."""
    crops = np.empty((len(ids), 4), np.int64)
    purpose = np.uint64(int(Purpose.CROP) << 16)
    _crops(np.uint64(seed), np.uint64(epoch), ids, purpose, heights, widths, *area, _RATIOS, crops)
    return crops
