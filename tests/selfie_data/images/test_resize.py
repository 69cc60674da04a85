"""Resizing: the compiled kernel gives the bits of two calls of Pillow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selfie_data.build.options import BuildOptions
from selfie_data.images.resize import (
    DECODED,
    Buffer,
    centre_crop,
    evaluation_geometry,
    evaluation_view,
    resize,
    resize_by_kernel,
    resize_by_pillow,
    resize_shorter,
    shorter_side,
)
from tests.material import picture

_SIDE = st.integers(1, 300)


@settings(deadline=None, max_examples=150)
@given(height=_SIDE, width=_SIDE, to_height=_SIDE, to_width=_SIDE, seed=st.integers(0, 2**32 - 1))
def test_the_kernel_gives_pillows_bits(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(resize_by_kernel(pixels, to_height, to_width), resize_by_pillow(pixels, to_height, to_width))


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_flat_images_stay_flat(value: int) -> None:
    assert (resize_by_kernel(np.full((403, 517, 3), value, np.uint8), 256, 328) == value).all()


def test_one_call_of_pillow_is_within_one() -> None:
    pixels = picture(500, 375, seed=1)
    once = np.asarray(Image.fromarray(pixels).resize((256, 341), Image.Resampling.BILINEAR))
    assert np.abs(resize(pixels, 341, 256).astype(int) - once).max() <= 1


def test_pixels_in_the_buffer_are_resized_like_others() -> None:
    pixels = picture(200, 300, seed=2)
    memory = DECODED.take(pixels.size)
    memory[: pixels.size] = pixels.reshape(-1)
    view = memory[: pixels.size].reshape(pixels.shape)
    assert np.array_equal(resize(view, 100, 150), resize_by_pillow(pixels, 100, 150))


def test_a_buffer_grows_and_is_kept() -> None:
    buffer = Buffer()
    first = buffer.take(1000)
    assert len(first) >= 1000
    assert buffer.take(500) is first
    assert len(buffer.take(5000)) >= 5000


def test_read_only_and_mirrored_pixels_give_the_same_bits() -> None:
    pixels = picture(60, 80, seed=5)
    locked = pixels.copy()
    locked.flags.writeable = False
    assert np.array_equal(resize_by_kernel(locked, 30, 44), resize_by_pillow(pixels, 30, 44))
    assert np.array_equal(resize_by_kernel(pixels[:, ::-1], 30, 44), resize_by_pillow(pixels[:, ::-1].copy(), 30, 44))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (256, 341)), ((640, 480), (341, 256)), ((256, 256), (256, 256)), ((1, 9), (256, 2304))],
)
def test_the_longer_side_is_rounded_down(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_shorter(np.zeros((*size, 3), np.uint8), 256).shape == (*expected, 3)


def test_the_odd_pixel_of_a_crop_goes_to_the_bottom_and_the_right() -> None:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    assert np.array_equal(centre_crop(pixels, 2), pixels[1:3, 1:3])


@pytest.mark.parametrize(("size", "expected"), [(224, 256), (96, 109), (160, 182), (256, 292), (320, 365), (384, 438)])
def test_the_shorter_side_is_rounded_down(size: int, expected: int) -> None:
    assert shorter_side(size) == expected


def test_what_a_build_stores_is_what_an_evaluation_looks_at() -> None:
    """At every size: a photograph that was shrunk to the default shorter side is not resized again."""
    for size in range(8, 4097):
        shorter = BuildOptions(size=size, encoding="jpeg").shorter_side
        stored = np.array([[shorter, shorter * 4 // 3], [shorter * 3 // 2, shorter], [shorter, shorter]])
        resized, corner = evaluation_geometry(stored, size)
        assert np.array_equal(resized, stored), size
        assert (corner >= 0).all(), size
        assert (corner + size <= stored).all(), size


@settings(deadline=None)
@given(height=st.integers(1, 9000), width=st.integers(1, 9000), size=st.integers(1, 4096))
def test_the_central_square_is_placed_as_torchvision_places_it(height: int, width: int, size: int) -> None:
    """Resize: int(shorter * long / short); CenterCrop: int(round((side - size) / 2.0)), halves to even."""
    shorter = shorter_side(size)
    expected = [shorter * side // min(height, width) for side in (height, width)]
    resized, corner = evaluation_geometry(np.array([[height, width]]), size)
    assert resized.tolist() == [expected]
    assert corner.tolist() == [[round((side - size) / 2) for side in expected]]


def test_the_view_is_the_central_square_of_the_resized_image() -> None:
    pixels = picture(132, 90, seed=3)
    expected = resize_by_pillow(pixels, 159, 109)[32:128, 6:102]  # 31.5 and 6.5, halves to even
    assert np.array_equal(evaluation_view(pixels, 96), expected)
    stored = picture(109, 140, seed=4)
    assert np.array_equal(evaluation_view(stored, 96), stored[6:102, 22:118])
