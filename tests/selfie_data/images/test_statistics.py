"""Channel sums: the compiled ones are those of NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.images.statistics import sum_by_kernel, sum_by_numpy, sum_pixels


@settings(deadline=None, max_examples=100)
@given(height=st.integers(1, 40), width=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_sums_are_those_of_numpy(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert sum_by_kernel(pixels) == sum_by_numpy(pixels)
    assert sum_by_kernel(pixels[::-1, ::-1]) == sum_by_numpy(pixels)


@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 16 * 65_536 - 1, 16 * 65_536 + 1, 16 * 131_072 + 5])
def test_counters_do_not_overflow(pixels: int) -> None:
    white = np.full((1, pixels, 3), 255, np.uint8)
    sums = sum_by_kernel(white)
    assert sums.total == 3 * (255 * pixels,)
    assert sums.squares == 3 * (255 * 255 * pixels,)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (3, 70_000, 1, 3), (2, 5, 7, 3)], ids=str)
def test_pixel_sums_do_not_overflow(shape: tuple[int, ...]) -> None:
    sums = sum_pixels(np.full(shape, 255, np.uint8))
    count = int(np.prod(shape[:-1]))
    assert sums == (count, (255 * count,) * 3, (65_025 * count,) * 3)
