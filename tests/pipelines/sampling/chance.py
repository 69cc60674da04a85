"""How likely counts are if all are equally likely."""

import math

import numpy as np
from numpy.typing import NDArray


def chi_square(counts: NDArray[np.int64]) -> float:
    """Standardised chi-square against equal frequencies: about normal(0, 1) if uniform."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom))
