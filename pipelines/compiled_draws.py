"""The draws of `draws.py` that every sample needs, compiled: a fifth of the time than NumPy takes.

`patch_draws` gives `draws.patch_order` and `draws.hidden_mask`, `flip_draws` gives `draws.flips`, to the bit; those are
the definitions, and tests hold these to them.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfie_data.philox import Purpose


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _philox(sample: Any, epoch: Any, last: Any, seed: Any) -> Any:
    """Philox4x32-10 of one counter; see `selfie_data.philox`."""
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
