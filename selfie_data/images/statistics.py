"""Channel statistics from exact integer sums, so that they are the same in whatever order images come."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.kernels.load import kernels_pay

_ROWS = 65_536  # rows of 255² = 65,025 fit a uint32 sum: 65,536 · 65,025 < 2**32


class PixelSums(NamedTuple):
    """Number of pixels, and over them the sum and the sum of squares of each channel."""

    pixels: int = 0
    total: tuple[int, int, int] = (0, 0, 0)
    squares: tuple[int, int, int] = (0, 0, 0)

    def plus(self, other: "PixelSums") -> "PixelSums":
        return PixelSums(
            self.pixels + other.pixels,
            (self.total[0] + other.total[0], self.total[1] + other.total[1], self.total[2] + other.total[2]),
            (
                self.squares[0] + other.squares[0],
                self.squares[1] + other.squares[1],
                self.squares[2] + other.squares[2],
            ),
        )

    @property
    def mean(self) -> tuple[float, float, float]:
        """Channel means, 0..255."""
        red, green, blue = (value / self.pixels for value in self.total)
        return red, green, blue

    @property
    def std(self) -> tuple[float, float, float]:
        """Channel standard deviations (of the population), 0..255."""
        red, green, blue = (
            math.sqrt(self.pixels * square - value * value) / self.pixels
            for value, square in zip(self.total, self.squares, strict=True)
        )
        return red, green, blue


def sum_pixels(images: NDArray[np.uint8]) -> PixelSums:
    """Sums uint8 [..., W, 3]."""
    return (sum_by_kernel if kernels_pay() else sum_by_numpy)(images)


def sum_by_kernel(images: NDArray[np.uint8]) -> PixelSums:
    """As `sum_pixels`, compiled."""
    from selfie_data.kernels.sums import sum_channels

    sums = sum_channels(np.require(images, requirements=("C", "W")).reshape(-1))
    return PixelSums(images.size // 3, _triple(sums[:3]), _triple(sums[3:]))


def sum_by_numpy(images: NDArray[np.uint8]) -> PixelSums:
    """The definition: as `sum_pixels`, five times as slow; everything before W counts as rows."""
    rows = images.reshape(-1, images.shape[-2] * 3)
    total = np.zeros(3, dtype=np.int64)
    squares = np.zeros(3, dtype=np.int64)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        total += _by_channel(np.add.reduce(block, axis=0, dtype=np.uint32))
        squares += _by_channel(np.add.reduce(np.square(block, dtype=np.uint16), axis=0, dtype=np.uint32))
    return PixelSums(images.size // 3, _triple(total), _triple(squares))


def add_up(sums: Iterable[PixelSums]) -> PixelSums:
    """Returns the sum of all."""
    result = PixelSums()
    for part in sums:
        result = result.plus(part)
    return result


def _by_channel(columns: NDArray[np.uint32]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = columns.reshape(-1, 3).sum(axis=0, dtype=np.int64)
    return sums


def _triple(values: NDArray[np.int64 | np.uint64]) -> tuple[int, int, int]:
    red, green, blue = values.tolist()
    return red, green, blue
