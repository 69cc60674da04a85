"""Which cells are context and target: the order equals its definition and is uniform; rules pick distinct cells."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.sampling.grid import Grid, default_split
from pipelines.sampling.selection import block_targets, hidden_mask, patch_order, select_cells
from selfie_data.randomness.philox import Purpose, draw_words
from tests.pipelines.sampling.chance import chi_square

GRID_32 = Grid(image_size=32, patch_size=8)
GRID_224 = Grid(image_size=224, patch_size=32)
# seed 0, epoch 0, ids 0 and 1: published; a change of any of them is a new version of the draws.
KNOWN_ORDER = [
    [5, 4, 3, 7, 13, 6, 14, 11, 9, 2, 0, 12, 15, 8, 10, 1],
    [13, 0, 8, 1, 9, 5, 6, 15, 4, 11, 7, 10, 2, 3, 12, 14],
]

Draw = Callable[[NDArray[np.int64]], NDArray[np.generic]]
DRAWS: dict[str, Draw] = {
    "order-16": lambda ids: patch_order(5, 6, ids, 16),
    "order-49": lambda ids: patch_order(5, 6, ids, 49),
    "selected": lambda ids: select_cells(5, 6, ids, GRID_32, context=12, target=4),
    "block": lambda ids: select_cells(
        5, 6, ids, GRID_32, context=10, target=4, selection=block_targets(context=10, height=2, width=2)
    ),
}


def test_order_equals_its_definition() -> None:
    ids = [0, 1, 99, 2**40 + 7]
    for cells in (1, 4, 16, 49):
        words = draw_words(3, 2, ids, Purpose.PATCHES, math.ceil(cells / 4))
        expected = [sorted(range(cells), key=lambda cell: (int(row[cell]) << 32) | cell) for row in words]
        np.testing.assert_array_equal(patch_order(3, 2, ids, cells), expected)


def test_known_answers() -> None:
    assert patch_order(0, 0, [0, 1], 16).tolist() == KNOWN_ORDER


def test_ties_are_broken_by_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sampling.selection.draw_words", lambda *_: np.zeros((2, 16), dtype=np.uint32))
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
def test_another_seed_epoch_or_id_is_another_order(change: str) -> None:
    ids = np.arange(200)
    seed, epoch, other = {"seed": (1, 0, ids), "epoch": (0, 1, ids), "id": (0, 0, ids + 200)}[change]
    assert (patch_order(0, 0, ids, 16) != patch_order(seed, epoch, other, 16)).any(axis=1).all()


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
        assert abs(chi_square(pairs[~np.eye(cells, dtype=bool)])) < 4


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


def test_block_targets_are_a_block_anywhere() -> None:
    rule = block_targets(context=30, height=3, width=2)
    chosen = select_cells(0, 0, range(30_000), GRID_224, context=30, target=6, selection=rule)
    row, column = np.divmod(chosen[:, 30:], 7)
    assert (np.ptp(row, axis=1) == 2).all()
    assert (np.ptp(column, axis=1) == 1).all()
    corners = row.min(axis=1) * 6 + column.min(axis=1)
    assert abs(chi_square(np.bincount(corners, minlength=5 * 6))) < 4
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


def test_a_seed_is_64_bits() -> None:
    with pytest.raises(ValueError, match="a seed must be in"):
        patch_order(2**64, 0, [0], 16)
