"""The compiled resampling against its twin in NumPy and against Pillow: equal to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipelines.backends.plain_resize import coefficients, resize_bilinear
from pipelines.backends.reference import window_of
from selfie_data.kernels.resample import cut_views, cut_window, needed_pixels, resample, scratch_bytes, taps_of

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
    """Resamples amid guard bytes, which must stay as they are."""
    source = np.concatenate((np.zeros(before, np.uint8), image.reshape(-1)))
    scratch = np.full(scratch_bytes(*crop[2:], size) + 8, 77, np.uint8)
    result = np.full(3 * size * size + 16, 99, np.uint8)
    geometry = (np.array(values, np.int64) for values in (crop, resize, window))
    resample(source, before, 3 * image.shape[1], *geometry, mirror, antialias, size, size, scratch[:-8], result[:-8], 8)
    assert (scratch[-8:] == 77).all()
    assert (result[:8] == 99).all()
    assert (result[-8:] == 99).all()
    return result[8:-8].reshape(size, size, 3)


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
    [
        (200, 200, 224),
        (1300, 1100, 64),
        (341, 256, 224),
        (500, 375, 224),
        (1, 1, 224),
        (3, 1000, 32),
        (224, 224, 224),
        (1200, 900, 96),
    ],
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


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    top=st.integers(-25, 25),
    left=st.integers(-25, 25),
    size=st.integers(1, 20),
    mirror=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_window_may_overhang_on_any_side(
    height: int, width: int, top: int, left: int, size: int, mirror: bool
) -> None:
    image = np.random.default_rng(1).integers(1, 256, (height + 3, width + 2, 3), dtype=np.uint8)
    result = np.full(3 * size * size + 10, 9, np.uint8)
    crop, window = np.array((2, 1, height, width)), np.array((top, left))
    cut_window(image.reshape(-1), 0, 3 * (width + 2), crop, window, mirror, size, result, 5)
    expected = window_of(image[2 : 2 + height, 1 : 1 + width], top, left, size)
    np.testing.assert_array_equal(result[5:-5].reshape(size, size, 3), expected[:, ::-1] if mirror else expected)
    assert (result[:5] == 9).all()
    assert (result[-5:] == 9).all()


@given(data=st.data(), antialias=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_view_depends_on_the_needed_pixels_alone(data: st.DataObject, antialias: bool, seed: int) -> None:
    """The needed rectangle, by itself at the beginning of memory, gives the view of the whole image."""
    side = st.integers(1, 70)
    height, width, size = data.draw(side), data.draw(side), data.draw(st.integers(1, 40))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = np.array([(top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))])
    resize = np.array([data.draw(st.one_of(st.tuples(side, side), st.just(tuple(crop[0, 2:].tolist()))))])
    window = np.array([data.draw(st.tuples(st.integers(-50, 80), st.integers(-50, 80)))])
    flip, image, needed = np.array([data.draw(st.booleans())]), pixels(height, width, seed), np.zeros((1, 4), np.int64)
    needed_pixels(crop, resize, window, size, antialias, needed)
    y, x, rows, columns = needed[0].tolist()
    assert top <= y < y + rows <= top + crop[0, 2]
    assert left <= x < x + columns <= left + crop[0, 3]
    scratch = np.zeros(scratch_bytes(*crop[0, 2:].tolist(), size), np.uint8)
    views = np.zeros((2, 3 * size * size), np.uint8)
    part = np.ascontiguousarray(image[y : y + rows, x : x + columns])
    for view, source, moved in zip(views, (image, part), (crop, crop - np.array([(y, x, 0, 0)])), strict=True):
        cut_views(
            source.reshape(-1), np.zeros(1, np.int64), np.array([source.shape[1]]), moved, resize, window, flip, size,
            antialias, 0, 1, scratch, view,
        )  # fmt: skip
    assert (views[0] == views[1]).all()


def test_a_crop_that_becomes_the_whole_view_is_needed_whole() -> None:
    crop, needed = np.array([(3, 5, 100, 60), (0, 0, 256, 341)]), np.zeros((2, 4), np.int64)
    needed_pixels(crop, np.full((2, 2), 32), np.zeros((2, 2), np.int64), 32, True, needed)
    assert (needed == crop).all()
    needed_pixels(crop, np.zeros((0, 2), np.int64), np.array([(4, -2), (16, 58)]), 224, True, needed)
    assert needed.tolist() == [[7, 5, 96, 60], [16, 58, 224, 224]]


@pytest.mark.parametrize("mirror", [False, True])
def test_what_has_its_size_is_cut_and_the_bits_are_those_of_resampling(mirror: bool) -> None:
    image, size = pixels(40, 50), 32
    crop, window = (3, 4, 36, 36), (2, 2)
    views = np.zeros(3 * size * size, np.uint8)
    cut_views(
        image.reshape(-1), np.zeros(1, np.int64), np.array([50]), np.array([crop]), np.array([(36, 36)]),
        np.array([window]), np.array([mirror]), size, True, 0, 1, np.empty(0, np.uint8), views,
    )  # fmt: skip
    expected = compiled(image, crop, (36, 36), size=size, window=window, mirror=mirror)
    np.testing.assert_array_equal(views.reshape(size, size, 3), expected)
