import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sampling.grid import Grid, default_patch_size, default_split, patchify, unpatchify


@pytest.mark.parametrize(
    ("image_size", "patch_size", "side", "split"),
    [(32, 8, 4, (12, 4)), (224, 32, 7, (37, 12)), (64, 8, 8, (48, 16)), (32, 16, 2, (3, 1)), (96, 32, 3, (7, 2))],
)
def test_geometry_of_the_paper_and_others(image_size: int, patch_size: int, side: int, split: tuple[int, int]) -> None:
    grid = Grid(image_size=image_size, patch_size=patch_size)
    assert (grid.side, grid.cells) == (side, side * side)
    assert default_split(grid.cells) == split


def test_default_patches_are_the_papers() -> None:
    assert [default_patch_size(size) for size in (32, 64, 96, 224)] == [8, 8, 32, 32]


@pytest.mark.parametrize(("image_size", "patch_size"), [(32, 7), (32, 0), (0, 8), (32, -8), (8, 16)])
def test_a_patch_must_divide_the_image(image_size: int, patch_size: int) -> None:
    with pytest.raises(ValueError, match="patch size must divide the image size"):
        Grid(image_size=image_size, patch_size=patch_size)


@given(
    batch=st.integers(0, 3),
    side=st.integers(1, 7),
    patch=st.integers(1, 9),
    channels=st.integers(1, 4),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_unpatchify_undoes_patchify(batch: int, side: int, patch: int, channels: int, dtype: str) -> None:
    shape = (batch, side * patch, side * patch, channels)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    patches = patchify(images, patch)
    assert patches.shape == (batch, side * side, patch, patch, channels)
    assert patches.dtype == images.dtype
    np.testing.assert_array_equal(unpatchify(patches), images)


def test_cells_are_numbered_row_by_row() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    patches = patchify(images, 8)
    for cell in range(16):
        row, column = divmod(cell, 4)
        expected = images[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_array_equal(patches[:, cell], expected)


def test_only_square_images_and_whole_grids() -> None:
    with pytest.raises(ValueError, match="must be square"):
        patchify(np.zeros((1, 16, 32, 3)), 8)
    with pytest.raises(ValueError, match="square number of patches, got 5"):
        unpatchify(np.zeros((1, 5, 8, 8, 3)))
