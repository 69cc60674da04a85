"""Which input pixels make an output pixel, and with what weights: Pillow's antialiased bilinear, in fixed point."""

from typing import Any

import numpy as np

from selfie_data.compiled import kernel
from selfie_data.weighting_kernel import PRECISION_BITS


@kernel
def taps_of(size: int, output: int, start: int, count: int, mirror: bool, antialias: bool) -> Any:
    """Returns first [count], weights [count, taps] of outputs start..start + count - 1.

    The twin is `pipelines.resample.coefficients`.

    Outputs outside [0, output) have only zero weights. All windows of taps lie inside [0, size).
    """
    scale = size / output
    support = max(scale, 1.0) if antialias else 1.0
    first = np.zeros(count, np.int64)
    width = np.zeros(count, np.int64)
    taps = 1
    for j in range(count):
        x = start + (count - 1 - j if mirror else j)
        if 0 <= x < output:
            centre = (x + 0.5) * scale
            first[j] = max(int(centre - support + 0.5), 0)
            width[j] = min(int(centre + support + 0.5), size) - first[j]
            taps = max(taps, width[j])
    weights = np.zeros((count, taps), np.int32)
    triangle = np.empty(taps, np.float64)
    inverse = 1.0 / support
    for j in range(count):
        x = start + (count - 1 - j if mirror else j)
        centre = (x + 0.5) * scale
        total = 0.0
        for t in range(width[j]):
            triangle[t] = max(1.0 - abs((t + first[j] - centre + 0.5) * inverse), 0.0)
            total += triangle[t]
        shift = max(first[j] + taps - size, 0)  # fewer taps than the others: they move in from the edge
        first[j] -= shift
        for t in range(width[j]):
            weight = triangle[t] / total if total != 0.0 else 0.0
            weights[j, t + shift] = np.int32(0.5 + weight * (1 << PRECISION_BITS))
    return first, weights
