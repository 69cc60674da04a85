import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sampling.compiled_draws import crop_draws, flip_draws, patch_draws
from pipelines.sampling.draws import flips, hidden_mask, patch_order, random_resized_crops

seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**32 - 1)
some_ids = st.lists(st.integers(0, 2**62), min_size=1, max_size=20).map(lambda ids: np.array(ids, np.int64))


@settings(deadline=None)
@given(seed=seeds, epoch=epochs, ids=some_ids, cells=st.integers(1, 70))
def test_patch_draws_equal_their_definition(seed: int, epoch: int, ids: np.ndarray, cells: int) -> None:
    context = (cells + 1) // 2
    order, mask = patch_draws(seed, epoch, ids, cells=cells, context=context)
    assert (order == patch_order(seed, epoch, ids, cells)).all()
    assert (mask == hidden_mask(order[:, :context], cells)).all()


@settings(deadline=None)
@given(seed=seeds, epoch=epochs, ids=some_ids)
def test_flip_draws_equal_their_definition(seed: int, epoch: int, ids: np.ndarray) -> None:
    assert (flip_draws(seed, epoch, ids) == flips(seed, epoch, ids)).all()


@pytest.mark.parametrize("cells", [196, 1024])
def test_large_grids(cells: int) -> None:
    ids = np.arange(5)
    order, _ = patch_draws(3, 1, ids, cells=cells, context=1)
    assert (order == patch_order(3, 1, ids, cells)).all()


@settings(deadline=None, max_examples=300)
@given(
    seed=seeds,
    epoch=epochs,
    ids=some_ids,
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    area=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: (min(pair), max(pair))),
)
def test_crop_draws_equal_their_definition(
    seed: int, epoch: int, ids: np.ndarray, height: int, width: int, area: tuple[float, float]
) -> None:
    heights, widths = np.full(len(ids), height), np.full(len(ids), width)
    expected = random_resized_crops(seed, epoch, ids, heights, widths, area=area)
    assert (crop_draws(seed, epoch, ids, heights, widths, area=area) == expected).all()


@pytest.mark.parametrize(("height", "width"), [(1000, 90), (90, 1000), (500, 375), (1, 1)])
def test_many_crop_draws(height: int, width: int) -> None:
    """Long images too, of which none of the ten attempts may fit."""
    ids = np.arange(20_000)
    heights, widths = np.full(len(ids), height), np.full(len(ids), width)
    expected = random_resized_crops(7, 3, ids, heights, widths, area=(0.2, 1.0))
    assert (crop_draws(7, 3, ids, heights, widths, area=(0.2, 1.0)) == expected).all()
