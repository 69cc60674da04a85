"""What the peers are given to work with does the work."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.peers.cut import RESIZE, cut, finish, masked, window
from benchmarks.work.task import MEAN, STD, rows
from pipelines.sampling.grid import patchify


def test_cut_is_patchify_and_a_gather() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    order = rng.random((5, 16)).argsort(axis=1)
    expected = np.take_along_axis(patchify(images, 8), order[:, :, None, None, None], axis=1)
    np.testing.assert_array_equal(cut(images, order, 8), expected)


def test_antialiased_resize_equals_pillow_within_one() -> None:
    part = np.random.default_rng(1).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    slot = np.empty((224, 224, 3), np.uint8)
    RESIZE["antialiased"](part, slot)
    expected = np.asarray(Image.fromarray(part).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(slot.astype(int) - expected).max() <= 1


def test_normalised_patches_are_pixels_minus_mean_over_std() -> None:
    task = rows(Path("nowhere"), threads=1)["raw32"]
    patches = np.random.default_rng(2).integers(0, 256, (2, 16, 8, 8, 3), dtype=np.uint8)
    expected = (patches - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(finish(patches, task).numpy(), expected, atol=1e-5)


@given(st.integers(20, 600), st.integers(20, 600), st.integers(0, 1000))
def test_windows_lie_in_the_image_and_have_the_right_area(height: int, width: int, seed: int) -> None:
    top, left, h, w = window(height, width, (0.2, 1.0), np.random.default_rng(seed))
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    assert h * w <= height * width
    fits = 3 / 4 <= width / height <= 4 / 3
    assert not fits or h * w >= 0.2 * height * width - math.hypot(height, width)


def test_masked_shows_the_cells_that_it_names() -> None:
    task = replace(rows(Path("nowhere"), threads=1)["mae-jpeg256"], image_size=32, patch_size=8, visible=5)
    patches = torch.rand(6, 16, 8, 8, 3)
    batch = masked(patches, task)
    for image in range(6):
        assert torch.equal(batch.visible[image], patches[image, batch.visible_position[image]])
        assert batch.mask[image].nonzero().flatten().tolist() == sorted(
            set(range(16)) - set(batch.visible_position[image].tolist())
        )
