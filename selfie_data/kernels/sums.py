"""Sums and sums of squares of each channel, exact, in one pass over the pixels."""

from typing import Any

import numpy as np
from numba import uint16, uint32, uint64, uintp

from selfie_data.kernels.compile import kernel

_BLOCK = 48  # bytes, 16 pixels: counters that fit the processor's registers
_BLOCKS = 65_536  # that a counter of 32 bits is good for: 65,536 * 255**2 < 2**32


@kernel
def sum_channels(pixels: Any) -> Any:
    """Returns the sums of RGB pixels (uint8, flat), uint64 [6]: red, green, blue, and their squares."""
    sums, values, squares = np.zeros(6, np.uint64), np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.uint32)
    blocks = pixels.size // _BLOCK
    for start in range(0, blocks, _BLOCKS):
        values[:], squares[:] = 0, 0
        for block in range(start, min(start + _BLOCKS, blocks)):
            first = uintp(block * _BLOCK)
            for place in range(uintp(_BLOCK)):
                value = uint16(pixels[first + place])
                values[place] += uint32(value)
                squares[place] += uint32(uint16(value * value))
        for place in range(_BLOCK):
            sums[place % 3] += values[place]
            sums[3 + place % 3] += squares[place]
    for place in range(blocks * _BLOCK, pixels.size):
        value = uint64(pixels[place])
        sums[place % 3] += value
        sums[3 + place % 3] += value * value
    return sums
