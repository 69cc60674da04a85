"""The draws equal their published definition, are uniform, and belong to the sample alone."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, LOWEST
from pipelines.sampling.draws import (
    block_targets,
    flips,
    hidden_mask,
    padded_crops,
    patch_order,
    random_resized_crops,
    select_cells,
)
from pipelines.sampling.grid import Grid, default_split
from selfie_data.randomness.philox import Purpose, draw_words

GRID_32 = Grid(image_size=32, patch_size=8)
GRID_224 = Grid(image_size=224, patch_size=32)
# seed 0, epoch 0, ids 0, 1, ...: published; a change of any of them is a new version of the draws.
KNOWN_ORDER = [
    [5, 4, 3, 7, 13, 6, 14, 11, 9, 2, 0, 12, 15, 8, 10, 1],
    [13, 0, 8, 1, 9, 5, 6, 15, 4, 11, 7, 10, 2, 3, 12, 14],
]
KNOWN_FLIPS = [1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0]
KNOWN_PADDED = [[2, 7], [4, 5], [0, 0]]
KNOWN_CROPS = [[38, 37, 158, 191], [9, 22, 225, 246], [76, 6, 100, 77]]

Draw = Callable[[NDArray[np.int64]], NDArray[np.generic]]


def _crops(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    # Sizes are the sample's own, many of them hard to fit a crop in.
    return random_resized_crops(5, 6, ids, 200 + ids % 301, 60 + ids * 7 % 441, area=(0.2, 1.0))


DRAWS: dict[str, Draw] = {
    "order-16": lambda ids: patch_order(5, 6, ids, 16),
    "order-49": lambda ids: patch_order(5, 6, ids, 49),
    "selected": lambda ids: select_cells(5, 6, ids, GRID_32, context=12, target=4),
    "block": lambda ids: select_cells(
        5, 6, ids, GRID_32, context=10, target=4, selection=block_targets(context=10, height=2, width=2)
    ),
    "flips": lambda ids: flips(5, 6, ids),
    "padded": lambda ids: padded_crops(5, 6, ids),
    "resized": _crops,
}


def _chi_square(counts: NDArray[np.int64]) -> float:
    """Standardised chi-square against equal frequencies: about normal(0, 1) if uniform."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom))


def test_order_equals_its_definition() -> None:
    ids = [0, 1, 99, 2**40 + 7]
    for cells in (1, 4, 16, 49):
        words = draw_words(3, 2, ids, Purpose.PATCHES, math.ceil(cells / 4))
        expected = [sorted(range(cells), key=lambda cell: (int(row[cell]) << 32) | cell) for row in words]
        np.testing.assert_array_equal(patch_order(3, 2, ids, cells), expected)


def test_known_answers() -> None:
    assert patch_order(0, 0, [0, 1], 16).tolist() == KNOWN_ORDER
    assert flips(0, 0, range(12)).astype(int).tolist() == KNOWN_FLIPS
    assert padded_crops(0, 0, [0, 1, 2]).tolist() == KNOWN_PADDED
    crops = random_resized_crops(0, 0, [0, 1, 2], [256, 256, 300], [256, 341, 100], area=(0.2, 1.0))
    assert crops.tolist() == KNOWN_CROPS


def test_ties_are_broken_by_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sampling.draws.draw_words", lambda *_: np.zeros((2, 16), dtype=np.uint32))
    np.testing.assert_array_equal(patch_order(0, 0, [0, 1], 16), [range(16)] * 2)


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
    assert (patch_order(0, 0, ids, 16) != patch_order(seed, epoch, other, 16)).any(axis=1).all()
    assert 60 < (flips(0, 0, ids) != flips(seed, epoch, other)).sum() < 140
    crops = random_resized_crops(0, 0, ids, 256, 256, area=(0.2, 1.0))
    assert (crops != random_resized_crops(seed, epoch, other, 256, 256, area=(0.2, 1.0))).any(axis=1).all()


@pytest.mark.parametrize("cells", [4, 16, 49])
def test_order_is_uniform(cells: int) -> None:
    """Each cell is equally often at each place, and each ordered pair equally often at the first two and last two."""
    count = 120_000
    order = patch_order(11, 0, np.arange(count), cells)
    places = np.stack([np.bincount(order[:, place], minlength=cells) for place in range(cells)])
    # Rows and columns both sum to `count`: (cells - 1)**2 degrees of freedom.
    statistic = ((places - count / cells) ** 2).sum() / (count / cells)
    assert abs(statistic - (cells - 1) ** 2) < 4 * math.sqrt(2) * (cells - 1)
    for first, second in ((0, 1), (cells - 2, cells - 1), (0, cells - 1)):
        pairs = np.bincount(order[:, first] * cells + order[:, second], minlength=cells * cells)
        pairs = pairs.reshape(cells, cells)
        assert (np.diag(pairs) == 0).all()
        assert abs(_chi_square(pairs[~np.eye(cells, dtype=bool)])) < 4


def test_flips_and_padded_crops_are_uniform() -> None:
    ids = np.arange(90_000)
    assert abs(_chi_square(np.bincount(flips(1, 2, ids)))) < 4
    offsets = padded_crops(1, 2, ids, padding=4)
    assert abs(_chi_square(np.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81))) < 4
    # Consecutive ids and consecutive epochs are independent.
    assert abs(_chi_square(np.bincount(flips(1, 2, ids[::2]) * 2 + flips(1, 2, ids[1::2])))) < 4
    assert abs(_chi_square(np.bincount(flips(1, 2, ids) * 2 + flips(1, 3, ids)))) < 4


@given(
    seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), first=st.integers(0, 2**62), side=st.integers(1, 8)
)
def test_selected_cells_are_a_partition(seed: int, epoch: int, first: int, side: int) -> None:
    ids = np.arange(5) + first
    order = patch_order(seed, epoch, ids, side * side)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(side * side), (5, 1)))
    if side == 1:
        return
    context, target = default_split(side * side)
    chosen = select_cells(seed, epoch, ids, Grid(image_size=8 * side, patch_size=8), context=context, target=target)
    np.testing.assert_array_equal(chosen, order)
    mask = hidden_mask(chosen[:, :context], side * side)
    for row in range(5):
        assert set(np.flatnonzero(mask[row])) == set(chosen[row, context:])


@given(
    seed=st.integers(0, 2**64 - 1),
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    area=st.sampled_from([(0.08, 1.0), (0.2, 1.0), (0.64, 1.0), (1.0, 1.0)]),
)
def test_crops_lie_in_the_image(seed: int, height: int, width: int, area: tuple[float, float]) -> None:
    top, left, crop_height, crop_width = random_resized_crops(seed, 0, range(20), height, width, area=area).T
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
    crops = random_resized_crops(5, 6, ids, heights, widths, area=(0.2, 1.0))
    for row in ids:
        assert crops[row].tolist() == _one_crop(5, 6, int(row), int(heights[row]), int(widths[row]), (0.2, 1.0))
    later = [_one_crop(5, 6, int(row), 1000, 90, (0.9, 1.0)) for row in range(20)]  # nothing fits: the central rule
    assert later == random_resized_crops(5, 6, ids[:20], 1000, 90, area=(0.9, 1.0)).tolist() == [[440, 0, 120, 90]] * 20


def test_areas_and_ratios_are_spread_over_their_ranges() -> None:
    crops = random_resized_crops(0, 0, range(20_000), 500, 500, area=(0.2, 0.5))
    area = crops[:, 2] * crops[:, 3] / 500**2
    ratio = crops[:, 3] / crops[:, 2]
    assert abs(_chi_square(np.histogram(area, bins=20, range=(0.2, 0.5))[0])) < 8  # whole pixels: not quite uniform
    assert 0.19 < area.min() < 0.21 < 0.49 < area.max() < 0.51
    assert 0.74 < ratio.min() < 0.77 < 1.3 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.01


def test_the_table_of_ratios_is_log_uniform() -> None:
    for index, ratio in enumerate(ASPECT_RATIOS):
        assert ratio == pytest.approx(LOWEST * (HIGHEST / LOWEST) ** ((index + 0.5) / 64), rel=1e-14)
    assert len(ASPECT_RATIOS) == 64


def test_block_targets_are_a_block_anywhere() -> None:
    rule = block_targets(context=30, height=3, width=2)
    chosen = select_cells(0, 0, range(30_000), GRID_224, context=30, target=6, selection=rule)
    row, column = np.divmod(chosen[:, 30:], 7)
    assert (np.ptp(row, axis=1) == 2).all()
    assert (np.ptp(column, axis=1) == 1).all()
    corners = row.min(axis=1) * 6 + column.min(axis=1)
    assert abs(_chi_square(np.bincount(corners, minlength=5 * 6))) < 4
    assert (np.diff(chosen[:, 30:], axis=1) > 0).all()  # an order that says nothing about the draw


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda order, _: order[:, :5], r"must return integers \[3, 16\]"),
        (lambda order, _: order.astype(float), r"must return integers"),
        (lambda order, _: order * 0, "distinct cells"),
        (lambda order, _: order + 1, r"distinct cells in \[0, 16\)"),
        (block_targets(context=12, height=5, width=1), "do not fit 4 x 4"),
    ],
    ids=["short", "float", "twice", "outside", "block"],
)
def test_a_wrong_rule_is_refused(rule: Callable[..., NDArray[np.int64]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_cells(0, 0, range(3), GRID_32, context=12, target=4, selection=rule)


@pytest.mark.parametrize(("context", "target"), [(0, 4), (12, 0), (13, 4)])
def test_a_split_must_fit_the_grid(context: int, target: int) -> None:
    with pytest.raises(ValueError, match="together at most 16 patches"):
        select_cells(0, 0, [0], GRID_32, context=context, target=target)


@pytest.mark.parametrize("area", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5)])
def test_a_crop_area_is_a_fraction(area: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="area of a crop"):
        random_resized_crops(0, 0, [0], 10, 10, area=area)


def test_a_seed_is_64_bits() -> None:
    for draw in (partial(patch_order, cells=16), flips, padded_crops):
        with pytest.raises(ValueError, match="a seed must be in"):
            draw(2**64, 0, [0])
