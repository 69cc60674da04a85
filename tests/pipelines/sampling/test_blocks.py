"""Selections by name: their counts, their shapes, and that the compiled draws are those of the plain twin."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sampling.blocks import Blocks, Multiblock, Squares, named_selection
from pipelines.sampling.grid import Grid
from tests.twins import blocks as twin

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 2**32 - 1)
SAMPLES = st.integers(0, 2**40)
GRIDS = st.integers(2, 16).map(lambda side: Grid(image_size=4 * side, patch_size=4))
MAE = Grid(image_size=224, patch_size=16)


@st.composite
def ranges(draw: st.DrawFn, low: float, high: float) -> tuple[float, float]:
    first, second = draw(st.floats(low, high)), draw(st.floats(low, high))
    return min(first, second), max(first, second)


@settings(deadline=None)
@given(seed=SEEDS, epoch=EPOCHS, sample=SAMPLES, grid=GRIDS, data=st.data())
def test_blocks_hide_exactly_as_many_as_asked_and_are_the_twins(
    seed: int, epoch: int, sample: int, grid: Grid, data: st.DataObject
) -> None:
    target = data.draw(st.integers(1, grid.cells - 1))
    smallest = data.draw(st.integers(1, 20))
    ids = np.array([sample])
    hidden = Blocks(smallest=smallest).hidden(seed, epoch, ids, grid, target)
    assert hidden.sum() == target
    expected = twin.blocks(seed, epoch, sample, side=grid.side, count=target, smallest=smallest)
    assert np.array_equal(hidden[0], expected.reshape(-1))


@settings(deadline=None)
@given(seed=SEEDS, epoch=EPOCHS, sample=SAMPLES, square=st.integers(1, 4), coarse=st.integers(2, 5), data=st.data())
def test_squares_are_whole_and_the_twins(
    seed: int, epoch: int, sample: int, square: int, coarse: int, data: st.DataObject
) -> None:
    grid = Grid(image_size=4 * square * coarse, patch_size=4)
    target = square**2 * data.draw(st.integers(1, coarse**2 - 1))
    hidden = Squares(side=square).hidden(seed, epoch, np.array([sample]), grid, target)[0]
    assert hidden.sum() == target
    tiles = hidden.reshape(coarse, square, coarse, square).swapaxes(1, 2).reshape(coarse**2, -1)
    assert np.array_equal(tiles.all(axis=1), tiles.any(axis=1))
    expected = twin.squares(seed, epoch, sample, side=grid.side, count=target, square=square)
    assert np.array_equal(hidden, expected.reshape(-1))


@settings(deadline=None)
@given(
    seed=SEEDS,
    epoch=EPOCHS,
    sample=SAMPLES,
    grid=GRIDS,
    targets=st.integers(1, 5),
    target_area=ranges(0.02, 0.4),
    target_ratio=ranges(0.3, 3.0),
    context_area=ranges(0.2, 1.0),
    least=st.integers(1, 40),
)
def test_multiblock_is_the_twins_and_its_context_holds_no_target(
    seed: int,
    epoch: int,
    sample: int,
    grid: Grid,
    targets: int,
    target_area: tuple[float, float],
    target_ratio: tuple[float, float],
    context_area: tuple[float, float],
    least: int,
) -> None:
    rule = Multiblock(
        targets=targets, target_area=target_area, target_ratio=target_ratio, context_area=context_area, least=least
    )
    try:
        rule.check(grid)
    except ValueError:
        return
    sets = rule.draw(seed, epoch, np.array([sample]), grid)
    context = sets.context[0][sets.context_valid[0]].tolist()
    blocks = [row[valid].tolist() for row, valid in zip(sets.target[0], sets.target_valid[0], strict=True)]
    assert context, "nothing to see"
    assert not set(context) & {cell for block in blocks for cell in block}
    assert not sets.context[~sets.context_valid].any()
    assert not sets.target[~sets.target_valid].any()
    expected = twin.multiblock(
        seed,
        epoch,
        sample,
        side=grid.side,
        targets=targets,
        context_area=context_area,
        target_area=target_area,
        target_ratio=target_ratio,
        least=least,
        most_context=rule.shape(grid)[0],
    )
    assert (context, blocks) == expected
    mask = sets.hidden(grid.cells)[0]
    assert np.flatnonzero(~mask).tolist() == context


@pytest.mark.parametrize("rule", [Blocks(), Squares(), Multiblock()])
def test_a_sample_is_drawn_alike_in_every_batch(rule: Blocks | Squares | Multiblock) -> None:
    def draw(ids: np.ndarray) -> list[np.ndarray]:
        return list(rule.draw(3, 5, ids, MAE)) if isinstance(rule, Multiblock) else [rule.hidden(3, 5, ids, MAE, 100)]

    ids = np.array([7, 2**33, 0, 12])
    together = draw(ids)
    for row, sample in enumerate(ids):
        alone = draw(np.array([sample]))
        assert all(np.array_equal(whole[row], part[0]) for whole, part in zip(together, alone, strict=True))


def test_golden_draws() -> None:
    """Published: what a trained model was shown can be shown again. A change needs a new version of the draws."""
    ids = np.arange(100)
    drawn = [
        Blocks().hidden(1, 2, ids, MAE, 75),
        Squares().hidden(1, 2, ids, MAE, 120),
        *Multiblock().draw(1, 2, ids, MAE),
    ]
    digests = [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16] for array in drawn]
    assert digests == [
        "764d27f678251c9b",
        "ae85e8eb115624a2",
        "b0a3e9fd51e3edd6",
        "998f6891220ea6fa",
        "600f99127b933bc2",
        "2140bc6bdd0ca3c5",
    ]


def test_ijepas_defaults_at_14_x_14() -> None:
    sets = Multiblock().draw(0, 0, np.arange(2000), MAE)
    sizes = sets.target_valid.sum(axis=2)
    assert (sizes == sizes[:, :1]).all()  # one size an image
    assert sizes.min() >= 0.15 * 196 * 0.8
    assert sizes.max() <= sets.target.shape[2] <= 0.2 * 196 * 1.25
    kept = sets.context_valid.sum(axis=1)
    assert kept.min() >= 10
    assert 60 < kept.mean() < 100  # the paper's context covers little more than a third of the grid
    assert sets.context_valid.shape[1] == 13**2


def test_blocks_hang_together() -> None:
    """Cells hidden by blocks have more hidden neighbours than as many cells drawn one by one."""
    hidden = Blocks().hidden(0, 0, np.arange(500), MAE, 75).reshape(-1, 14, 14)
    beside = (hidden[:, :, 1:] & hidden[:, :, :-1]).sum() + (hidden[:, 1:] & hidden[:, :-1]).sum()
    by_chance = 2 * 14 * 13 * 500 * (75 / 196) * (74 / 195)
    assert beside > 1.6 * by_chance


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Blocks(smallest=0), "smallest must be at least 1"),
        (lambda: Squares(side=0), "side must be at least 1"),
        (lambda: Squares(side=3).check(MAE, 9), "3 x 3 cells must fit the grid's 14 x 14"),
        (lambda: Squares(side=2).check(MAE, 75), "target be a multiple of 4, got 75"),
        (lambda: Multiblock(targets=0), "targets must be 1-60"),
        (lambda: Multiblock(target_area=(0.3, 0.2)), "target_area must be a rising range"),
        (lambda: Multiblock(context_area=(0.5, 1.5)), "areas at most 1"),
        (lambda: Multiblock(targets=10).check(MAE), "too little of 14 x 14 to see"),
        (lambda: named_selection("block"), "one of random, blocks, squares, multiblock"),
    ],
)
def test_impossible_rules_are_refused(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]
