"""The compiled resampling against its twin in NumPy and against Pillow: equal to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipelines.backends.plain_resize import coefficients, resize_bilinear
from pipelines.backends.reference import window_of
from pipelines.kernels.resample import resample
from selfie_data.kernels.passes_kernel import SLACK, middle_bytes
from selfie_data.kernels.taps_kernel import taps_of

Pixels = NDArray[np.uint8]


def compiled(
    image: Pixels,
    crop: tuple[int, int, int, int],
    resize: tuple[int, int],
    *,
    size: int,
    window: tuple[int, int] = (0, 0),
    mirror: bool = False,
    antialias: bool = True,
    before: int = 0,
) -> Pixels:
    source = np.concatenate((np.zeros(before, np.uint8), image.reshape(-1), np.zeros(SLACK, np.uint8)))
    middle = np.full(middle_bytes(*crop[2:], size), 77, np.uint8)
    result = np.full(3 * size * size + SLACK, 99, np.uint8)
    geometry = (np.array(values, np.int64) for values in (crop, resize, window))
    resample(source, before, 3 * image.shape[1], *geometry, mirror, antialias, size, middle, result)
    return result[: 3 * size * size].reshape(size, size, 3)


def by_pillow(image: Pixels, crop: tuple[int, int, int, int], size: int) -> Pixels:
    top, left, height, width = crop
    piece = Image.fromarray(image).crop((left, top, left + width, top + height))
    return np.asarray(piece.resize((size, height), Image.Resampling.BILINEAR).resize((size, size), 2))


def pixels(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_any_crop_size_window_and_mirror_equals_the_twin(data: st.DataObject, seed: int) -> None:
    side = st.integers(1, 70)
    height, width, size = data.draw(side), data.draw(side), data.draw(st.integers(1, 40))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    resize = data.draw(st.tuples(side, side))
    window = data.draw(st.tuples(st.integers(-50, 80), st.integers(-50, 80)))
    mirror, antialias = data.draw(st.booleans()), data.draw(st.booleans())
    image = pixels(height, width, seed)
    piece = image[crop[0] : crop[0] + crop[2], crop[1] : crop[1] + crop[3]]
    expected = window_of(resize_bilinear(piece, *resize, antialias=antialias), *window, size)
    actual = compiled(
        image, crop, resize, size=size, window=window, mirror=mirror, antialias=antialias, before=seed % 5
    )
    np.testing.assert_array_equal(actual, expected[:, ::-1] if mirror else expected)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(200, 200, 224), (341, 256, 224), (500, 375, 224), (1, 1, 224), (3, 1000, 32), (224, 224, 224), (1200, 900, 96)],
)
def test_photograph_sizes_equal_pillow(height: int, width: int, size: int) -> None:
    image = pixels(height, width)
    crop = (height // 5, width // 7, max(height // 2, 1), max(width // 2, 1))
    for window in ((0, 0, height, width), crop):
        np.testing.assert_array_equal(compiled(image, window, (size, size), size=size), by_pillow(image, window, size))


def test_extreme_pixels_neither_wrap_nor_dim() -> None:
    image = np.zeros((301, 301, 3), np.uint8)
    image[::2] = 255
    crop = (0, 0, 301, 301)
    np.testing.assert_array_equal(compiled(image, crop, (97, 97), size=97), by_pillow(image, crop, 97))
    white = np.full((301, 301, 3), 255, np.uint8)
    assert (compiled(white, crop, (97, 97), size=97) == 255).all()


@given(size=st.integers(1, 3000), output=st.integers(1, 500), antialias=st.booleans())
@settings(max_examples=100, deadline=None)
def test_taps_equal_those_of_the_twin_and_stay_inside(size: int, output: int, antialias: bool) -> None:
    first, weights = taps_of(size, output, 0, output, False, antialias)
    twin_first, twin_weights = coefficients(size, output, antialias=antialias)
    assert (first >= 0).all()
    assert (first + weights.shape[1] <= size).all()
    for index in range(output):
        ours, theirs = np.zeros(size, np.int64), np.zeros(size + twin_weights.shape[1], np.int64)
        ours[first[index] : first[index] + weights.shape[1]] = weights[index]
        theirs[twin_first[index] : twin_first[index] + twin_weights.shape[1]] = twin_weights[index]
        np.testing.assert_array_equal(ours, theirs[:size])


def test_nothing_is_written_past_the_slack() -> None:
    image, size = pixels(50, 60), 21  # rows of 63 bytes: no multiple of what is written at once
    source = np.concatenate((image.reshape(-1), np.zeros(SLACK, np.uint8)))
    middle, result = np.zeros(middle_bytes(50, 60, size) + 8, np.uint8), np.zeros(3 * size * size + SLACK + 8, np.uint8)
    middle[-8:] = result[-8:] = 99
    geometry = (np.array(values) for values in ((0, 0, 50, 60), (size, size), (0, 0)))
    resample(source, 0, 180, *geometry, False, True, size, middle[:-8], result[:-8])
    assert (middle[-8:] == 99).all()
    assert (result[-8:] == 99).all()
