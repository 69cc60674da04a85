"""Medians, their bootstrap intervals, and ratios of pairs measured side by side."""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 4000
_SEED = 20190610  # fixed, so that a table made twice from one file is the same table


def median(values: Sequence[float]) -> float:
    """The median; ValueError for none."""
    if not len(values):
        raise ValueError("a median needs at least one value, got none")
    return float(np.median(np.asarray(values, dtype=np.float64)))


def interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """The bootstrap percentile interval of the median; one value gives that value twice."""
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("an interval needs at least one value, got none")
    chosen = np.random.default_rng(_SEED).integers(0, data.size, (_RESAMPLES, data.size))
    medians = np.median(data[chosen], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return float(low), float(high)


def pair_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours[i] / theirs[i], each pair from one round, so that what slows the machine slows both."""
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need equally many rounds, got {len(ours)} and {len(theirs)}")
    return [a / b for a, b in zip(ours, theirs, strict=True)]
