"""The compiled draws equal their published definition, are uniform, and belong to the sample alone."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS
from pipelines.sampling.draws import draw_crops, draw_flips, draw_padded_crops, draw_patches
from pipelines.sampling.selection import hidden_mask, patch_order
from selfie_data.randomness.philox import Purpose, draw_words
from tests.pipelines.sampling.chance import chi_square
from tests.twins.draws import flips, random_resized_crops

# seed 0, epoch 0, ids 0, 1, ...: published; a change of any of them is a new version of the draws.
KNOWN_FLIPS = [1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0]
KNOWN_PADDED = [[2, 7], [4, 5], [0, 0]]
KNOWN_CROPS = [[38, 37, 158, 191], [9, 22, 225, 246], [76, 6, 100, 77]]

seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**32 - 1)
some_ids = st.lists(st.integers(0, 2**62), min_size=1, max_size=20).map(lambda ids: np.array(ids, np.int64))


Draw = Callable[[NDArray[np.int64]], NDArray[np.generic]]


def crops_of(
    seed: int, epoch: int, ids: NDArray[np.int64], height: int, width: int, area: tuple[float, float] = (0.2, 1.0)
) -> NDArray[np.int64]:
    """Draws crops of images of one size."""
    return draw_crops(seed, epoch, ids, np.full(len(ids), height), np.full(len(ids), width), area=area)


DRAWS: dict[str, Draw] = {
    "order": lambda ids: draw_patches(5, 6, ids, cells=49, context=37)[0],
    "mask": lambda ids: draw_patches(5, 6, ids, cells=49, context=37)[1],
    "flips": lambda ids: draw_flips(5, 6, ids),
    "padded": lambda ids: draw_padded_crops(5, 6, ids, padding=4),
    # Sizes are the sample's own, many of them hard to fit a crop in.
    "crops": lambda ids: draw_crops(5, 6, ids, 200 + ids % 301, 60 + ids * 7 % 441, area=(0.2, 1.0)),
}


def test_known_answers() -> None:
    assert draw_flips(0, 0, np.arange(12)).astype(int).tolist() == KNOWN_FLIPS
    assert draw_padded_crops(0, 0, np.arange(3), padding=4).tolist() == KNOWN_PADDED
    sizes = np.array([256, 256, 300]), np.array([256, 341, 100])
    assert draw_crops(0, 0, np.arange(3), *sizes, area=(0.2, 1.0)).tolist() == KNOWN_CROPS
    assert random_resized_crops(0, 0, range(3), *sizes, area=(0.2, 1.0)).tolist() == KNOWN_CROPS


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_draw_depends_on_neither_batch_nor_order(draw: Draw) -> None:
    ids = np.arange(400) * 977 + (1 << 33) * (np.arange(400) % 3)
    whole = draw(ids)
    shuffle = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_array_equal(draw(ids[shuffle]), whole[shuffle])
    for size in (1, 7, 64):
        parts = [draw(ids[start : start + size]) for start in range(0, len(ids), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(draw(ids[:0])) == 0


@pytest.mark.parametrize("change", ["seed", "epoch", "id"])
def test_another_seed_epoch_or_id_is_another_draw(change: str) -> None:
    ids = np.arange(200)
    seed, epoch, other = {"seed": (1, 0, ids), "epoch": (0, 1, ids), "id": (0, 0, ids + 200)}[change]
    assert 60 < (draw_flips(0, 0, ids) != draw_flips(seed, epoch, other)).sum() < 140
    crops = crops_of(0, 0, ids, 256, 256)
    assert (crops != crops_of(seed, epoch, other, 256, 256)).any(axis=1).all()


def test_flips_and_padded_crops_are_uniform() -> None:
    ids = np.arange(90_000)
    assert abs(chi_square(np.bincount(draw_flips(1, 2, ids)))) < 4
    offsets = draw_padded_crops(1, 2, ids, padding=4)
    assert abs(chi_square(np.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81))) < 4
    # Consecutive ids and consecutive epochs are independent.
    assert abs(chi_square(np.bincount(draw_flips(1, 2, ids[::2]) * 2 + draw_flips(1, 2, ids[1::2])))) < 4
    assert abs(chi_square(np.bincount(draw_flips(1, 2, ids) * 2 + draw_flips(1, 3, ids)))) < 4


@given(
    seed=st.integers(0, 2**64 - 1),
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    area=st.sampled_from([(0.08, 1.0), (0.2, 1.0), (0.64, 1.0), (1.0, 1.0)]),
)
def test_crops_lie_in_the_image(seed: int, height: int, width: int, area: tuple[float, float]) -> None:
    top, left, crop_height, crop_width = crops_of(seed, 0, np.arange(20), height, width, area).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (crop_height >= 1).all()
    assert (crop_width >= 1).all()
    assert (top + crop_height <= height).all()
    assert (left + crop_width <= width).all()


def _one_crop(seed: int, epoch: int, sample_id: int, height: int, width: int, area: tuple[float, float]) -> list[int]:
    """The definition, one sample at a time, after torchvision's `RandomResizedCrop.get_params`."""
    words = [int(word) for word in draw_words(seed, epoch, sample_id, Purpose.CROP, 10)]
    for attempt in range(10):
        area_word, ratio_word, top_word, left_word = words[4 * attempt : 4 * attempt + 4]
        pixels = height * width * (area[0] + (area[1] - area[0]) * (area_word / 2**32))
        ratio = ASPECT_RATIOS[ratio_word >> 26]
        crop_width, crop_height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = (top_word * (height - crop_height + 1)) >> 32, (left_word * (width - crop_width + 1)) >> 32
            return [top, left, crop_height, crop_width]
    crop_height, crop_width = height, width
    if width / height < 3 / 4:
        crop_height = round(width / (3 / 4))
    elif width / height > 4 / 3:
        crop_width = round(height * (4 / 3))
    return [(height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width]


def test_crops_equal_their_definition() -> None:
    ids = np.arange(600)
    heights, widths = 200 + ids % 301, 60 + ids * 7 % 441
    crops = draw_crops(5, 6, ids, heights, widths, area=(0.2, 1.0))
    for row in ids:
        assert crops[row].tolist() == _one_crop(5, 6, int(row), int(heights[row]), int(widths[row]), (0.2, 1.0))
    later = [_one_crop(5, 6, int(row), 1000, 90, (0.9, 1.0)) for row in range(20)]  # nothing fits: the central rule
    assert later == crops_of(5, 6, ids[:20], 1000, 90, (0.9, 1.0)).tolist() == [[440, 0, 120, 90]] * 20


def test_areas_and_ratios_are_spread_over_their_ranges() -> None:
    crops = crops_of(0, 0, np.arange(20_000), 500, 500, (0.2, 0.5))
    area = crops[:, 2] * crops[:, 3] / 500**2
    ratio = crops[:, 3] / crops[:, 2]
    assert abs(chi_square(np.histogram(area, bins=20, range=(0.2, 0.5))[0])) < 8  # whole pixels: not quite uniform
    assert 0.19 < area.min() < 0.21 < 0.49 < area.max() < 0.51
    assert 0.74 < ratio.min() < 0.77 < 1.3 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.01


@settings(deadline=None)
@given(seed=seeds, epoch=epochs, ids=some_ids, cells=st.integers(1, 70))
def test_patches_equal_their_definition(seed: int, epoch: int, ids: np.ndarray, cells: int) -> None:
    context = (cells + 1) // 2
    order, mask = draw_patches(seed, epoch, ids, cells=cells, context=context)
    assert (order == patch_order(seed, epoch, ids, cells)).all()
    assert (mask == hidden_mask(order[:, :context], cells)).all()


@settings(deadline=None)
@given(seed=seeds, epoch=epochs, ids=some_ids)
def test_flips_equal_their_definition(seed: int, epoch: int, ids: np.ndarray) -> None:
    assert (draw_flips(seed, epoch, ids) == flips(seed, epoch, ids)).all()


@pytest.mark.parametrize("cells", [196, 1024])
def test_large_grids(cells: int) -> None:
    ids = np.arange(5)
    order, _ = draw_patches(3, 1, ids, cells=cells, context=1)
    assert (order == patch_order(3, 1, ids, cells)).all()


def test_ties_are_broken_by_the_cell() -> None:
    """Two cells of these samples drew the same word: found among the first 32,000 ids."""
    ids, tied = np.array([19034, 31794]), [(917, 948), (382, 570)]
    words = draw_words(0, 0, ids, Purpose.PATCHES, 256)
    order, _ = draw_patches(0, 0, ids, cells=1024, context=1)
    for row, (first, second) in enumerate(tied):
        assert words[row, first] == words[row, second]
        place = order[row].tolist().index(first)
        assert order[row, place + 1] == second


@settings(deadline=None, max_examples=300)
@given(
    seed=seeds,
    epoch=epochs,
    ids=some_ids,
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    area=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: (min(pair), max(pair))),
)
def test_crops_equal_their_twin(
    seed: int, epoch: int, ids: np.ndarray, height: int, width: int, area: tuple[float, float]
) -> None:
    heights, widths = np.full(len(ids), height), np.full(len(ids), width)
    expected = random_resized_crops(seed, epoch, ids, heights, widths, area=area)
    assert (draw_crops(seed, epoch, ids, heights, widths, area=area) == expected).all()


@pytest.mark.parametrize(("height", "width"), [(1000, 90), (90, 1000), (500, 375), (1, 1)])
def test_many_crops(height: int, width: int) -> None:
    """Long images too, of which none of the ten attempts may fit."""
    ids = np.arange(20_000)
    heights, widths = np.full(len(ids), height), np.full(len(ids), width)
    expected = random_resized_crops(7, 3, ids, heights, widths, area=(0.2, 1.0))
    assert (draw_crops(7, 3, ids, heights, widths, area=(0.2, 1.0)) == expected).all()


def test_a_seed_is_64_bits() -> None:
    with pytest.raises(ValueError, match="a seed must be in"):
        draw_padded_crops(2**64, 0, np.arange(1), padding=4)
