"""Normalisation: bytes to floats of mean 0 and standard deviation 1 a channel, by the dataset's own statistics.

    y = float32(x) * scale + bias        scale = 1 / std, bias = -mean / std

Two roundings in float32, no fused multiply-add, so that a loader's float output equals what a model computes itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Normalisation(NamedTuple):
    """Per channel factors; both float32 [3]."""

    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


def from_statistics(mean: Sequence[float], std: Sequence[float]) -> Normalisation:
    """Returns the normalisation for channel means and standard deviations in units of 0..255.

    A channel that never varies is centred but not scaled.
    """
    centre = np.asarray(mean, dtype=np.float64)
    spread = np.asarray(std, dtype=np.float64)
    if centre.shape != (3,) or spread.shape != (3,) or (spread < 0).any():
        raise ValueError(f"mean and std are three numbers each, std >= 0, got {mean} and {std}")
    scale = 1 / np.where(spread > 0, spread, 1)
    return Normalisation(scale.astype(np.float32), (-centre * scale).astype(np.float32))


def normalise(pixels: NDArray[np.uint8], normalisation: Normalisation) -> NDArray[np.float32]:
    """Returns uint8 [..., 3] as float32 [..., 3]."""
    result = pixels.astype(np.float32)
    result *= normalisation.scale
    result += normalisation.bias
    return result
