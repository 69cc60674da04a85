"""Which input pixels make an output pixel, and with what weights: Pillow's antialiased bilinear, in fixed point.

`taps_of` allocates its results. `find_taps` and `weigh_taps`, which it is made of, write where they are told: kernels
that are kept as machine code must allocate nothing.
"""

from typing import Any

import numpy as np

from selfie_data.kernels.compiled import kernel
from selfie_data.kernels.weighting_kernel import PRECISION_BITS


@kernel
def taps_of(size: int, output: int, start: int, count: int, mirror: bool, antialias: bool) -> Any:
    """Returns first [count], weights [count, taps] of outputs start..start + count - 1.

    The twin is `pipelines.backends.plain_resize.coefficients`.

    Outputs outside [0, output) have only zero weights. All windows of taps lie inside [0, size).
    """
    first = np.zeros(count, np.int64)
    taps = find_taps(size, output, start, count, mirror, antialias, first)
    weights = np.zeros(count * taps, np.int32)
    weigh_taps(size, output, start, count, mirror, antialias, taps, first, weights)
    return first, weights.reshape(count, taps)


@kernel
def find_taps(size: int, output: int, start: int, count: int, mirror: bool, antialias: bool, first: Any) -> int:
    """Writes each output's first tap to `first`, int64 [count]; returns the largest number of taps."""
    scale = size / output
    support = max(scale, 1.0) if antialias else 1.0
    taps = 1
    for j in range(count):
        x = start + (count - 1 - j if mirror else j)
        first[j] = 0
        if 0 <= x < output:
            low, high = _window(x, scale, support, size)
            first[j] = low
            taps = max(taps, high - low)
    return taps


@kernel
def weigh_taps(
    size: int, output: int, start: int, count: int, mirror: bool, antialias: bool, taps: int, first: Any, weights: Any
) -> None:
    """Writes `weights`, int32 [count * taps], and moves windows in `first` that reach past the edge inside."""
    scale = size / output
    support = max(scale, 1.0) if antialias else 1.0
    inverse = 1.0 / support
    weights[: count * taps] = 0
    for j in range(count):
        x = start + (count - 1 - j if mirror else j)
        shift = max(first[j] + taps - size, 0)  # fewer taps than the others: they move in from the edge
        first[j] -= shift
        if 0 <= x < output:
            low, high = _window(x, scale, support, size)
            total = 0.0
            for t in range(high - low):
                total += _triangle(t + low, x, scale, inverse)
            for t in range(high - low):
                weight = _triangle(t + low, x, scale, inverse) / total if total != 0.0 else 0.0
                weights[j * taps + t + shift] = np.int32(0.5 + weight * (1 << PRECISION_BITS))


@kernel
def _window(x: int, scale: float, support: float, size: int) -> Any:
    """Returns where the taps of output `x` begin and end."""
    centre = (x + 0.5) * scale
    return max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)


@kernel
def _triangle(tap: int, x: int, scale: float, inverse: float) -> float:
    """Returns the weight of input `tap` for output `x` before weights are made to sum to one."""
    return max(1.0 - abs((tap - (x + 0.5) * scale + 0.5) * inverse), 0.0)
