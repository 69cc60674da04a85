"""The plan: which source image goes where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from selfie_data.build.plan import BlockPlan, OneShard, Plan
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose
from selfie_data.source import Blocks
from tests.twins.block_plan import lay_out
from tests.twins.inverse_permutation import inverse


def positions_of(plan: Plan, indices: ArrayLike) -> NDArray[np.int64]:
    """Returns the plan positions of source indices."""
    return inverse(Permutation(size=plan.size, seed=plan.seed, purpose=Purpose.PLAN), indices)


@given(images=st.integers(1, 500), share=st.floats(0, 1), per_shard=st.integers(1, 600), seed=st.integers(0, 2**64 - 1))
def test_every_image_has_one_place(images: int, share: float, per_shard: int, seed: int) -> None:
    samples = max(1, int(images * share))
    plan = Plan(size=images, samples=samples, samples_per_shard=per_shard, seed=seed)
    shards = [list(plan.positions(number)) for number in range(plan.shards)]
    positions = np.concatenate(shards).astype(np.int64)
    assert positions.tolist() == list(range(samples))
    indices = plan.sources(positions)
    assert len(np.unique(indices)) == samples
    assert ((indices >= 0) & (indices < images)).all()
    assert all(len(shard) == per_shard for shard in shards[:-1])
    assert np.array_equal(positions_of(plan, indices), positions)


def test_a_billion_images_cost_nothing() -> None:
    plan = Plan(size=10**9, samples=10**9, samples_per_shard=1000, seed=3)
    positions = plan.positions(plan.shards - 1)
    assert positions[-1] == 10**9 - 1
    indices = plan.sources(np.array(positions))
    assert len(np.unique(indices)) == 1000
    assert np.array_equal(positions_of(plan, indices), np.array(positions))


def test_a_limit_takes_a_random_part() -> None:
    part = Plan(size=1000, samples=100, samples_per_shard=100, seed=0)
    indices = part.sources(np.array(part.positions(0)))
    whole = Plan(size=1000, samples=1000, samples_per_shard=100, seed=0)
    assert np.array_equal(indices, whole.sources(np.arange(100)))
    assert indices.max() > 500


def test_the_plan_is_pinned() -> None:
    """A change of this order would rebuild every dataset differently: raise the permutation's version then."""
    plan = Plan(size=1000, samples=1000, samples_per_shard=8, seed=7)
    assert plan.sources(np.array(plan.positions(0))).tolist() == [523, 442, 695, 260, 447, 751, 467, 295]


@pytest.mark.parametrize(("samples", "per_shard"), [(0, 1), (11, 1), (5, 0)])
def test_impossible_plans_are_refused(samples: int, per_shard: int) -> None:
    with pytest.raises(ValueError, match=r"takes 1 to 10|at least one"):
        Plan(size=10, samples=samples, samples_per_shard=per_shard, seed=0)


def test_shards_outside_are_refused() -> None:
    plan = Plan(size=10, samples=10, samples_per_shard=4, seed=0)
    assert plan.shards == 3
    with pytest.raises(IndexError, match="shards are 0 to 2, got 3"):
        plan.positions(3)


def blocks_of(counts: list[int], sizes: list[int]) -> Blocks:
    return Blocks(starts=np.cumsum([0, *counts]), bytes=np.array(sizes, np.int64))


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    share=st.floats(0, 1),
    per_shard=st.integers(6, 200),
    window=st.integers(1, 200),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_plan_by_blocks_is_its_twin_and_every_image_has_one_place(
    counts: list[int], share: float, per_shard: int, window: int, seed: int
) -> None:
    images = sum(counts)
    samples = max(1, int(images * share))
    sizes = [1 + count * 7 % 11 for count in counts]
    plan = BlockPlan(
        blocks=blocks_of(counts, sizes), samples=samples, samples_per_shard=per_shard, seed=seed, window_bytes=window
    )
    shards = [plan.sources(plan.positions(number)) for number in range(plan.shards)]
    expected = lay_out(counts, sizes, samples=samples, per_shard=per_shard, seed=seed, window_bytes=window)
    assert [shard.tolist() for shard in shards] == expected
    indices = np.concatenate(shards)
    assert len(np.unique(indices)) == samples
    assert 0 <= indices.min() <= indices.max() < images
    assert np.array_equal(plan.sources(np.arange(samples)[::-1]), indices[::-1])
    for number in range(plan.shards):
        assert np.concatenate(plan.windows(number)).tolist() == list(plan.positions(number))


def test_a_part_of_a_plan_by_blocks_has_every_image_equally_often_and_every_block_its_share() -> None:
    blocks = blocks_of([7, 1, 12, 30, 3], [1] * 5)
    taken = np.zeros(53, np.int64)
    for seed in range(400):
        plan = BlockPlan(blocks=blocks, samples=13, samples_per_shard=13, seed=seed)
        indices = plan.sources(np.arange(13))
        taken[indices] += 1
        share = np.histogram(indices, blocks.starts)[0]
        assert (np.abs(share - np.diff(blocks.starts) * 13 / 53) < 1).all()
    expected = 400 * 13 / 53  # 98; 9 is a standard deviation
    assert np.abs(taken - expected).max() < 5 * 9


def test_a_shard_by_blocks_reads_few_of_them() -> None:
    plan = BlockPlan(
        blocks=blocks_of([100] * 10_000, [1 << 20] * 10_000), samples=10**6, samples_per_shard=1000, seed=1
    )
    for number in (0, 500, 999):
        assert len(np.unique(plan.sources(plan.positions(number)) // 100)) <= 11
    numbers = np.concatenate([plan.sources(window) // 100 for window in plan.windows(3)])
    assert (np.diff(numbers) == 0).mean() < 0.3  # shuffled inside


def test_ten_billion_images_in_blocks_take_the_memory_of_the_blocks() -> None:
    blocks = Blocks(starts=np.arange(0, 10**10 + 1, 10**5), bytes=np.full(10**5, 1 << 24))
    plan = BlockPlan(blocks=blocks, samples=3 * 10**9, samples_per_shard=1000, seed=3)
    indices = plan.sources(plan.positions(plan.shards - 1))
    assert len(np.unique(indices)) == 1000
    assert len(np.unique(indices // 10**5)) <= 2


def test_the_plan_by_blocks_is_pinned() -> None:
    """A change of this order would rebuild every dataset differently: raise the permutation's version then."""
    plan = BlockPlan(blocks=blocks_of([10] * 10, [1] * 10), samples=50, samples_per_shard=8, seed=7)
    assert plan.sources(plan.positions(1)).tolist() == [41, 40, 74, 7, 48, 49, 6, 42]


@pytest.mark.parametrize(("samples", "per_shard"), [(0, 1), (11, 1), (5, 0)])
def test_impossible_plans_by_blocks_are_refused(samples: int, per_shard: int) -> None:
    with pytest.raises(ValueError, match=r"takes 1 to 10|at least one"):
        BlockPlan(blocks=blocks_of([10], [1]), samples=samples, samples_per_shard=per_shard, seed=0)
    plan = BlockPlan(blocks=blocks_of([10], [1]), samples=10, samples_per_shard=4, seed=0)
    with pytest.raises(IndexError, match="shards are 0 to 2, got 3"):
        plan.positions(3)
    with pytest.raises(IndexError, match=r"positions must be in \[0, 10\), got 3 to 10"):
        plan.sources([3, 10])


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5))
def test_a_shard_of_a_plan_is_the_same_by_itself(samples: int, per_shard: int, seed: int) -> None:
    plan = Plan(size=samples, samples=samples, samples_per_shard=per_shard, seed=seed)
    for shard in range(plan.shards):
        alone = OneShard.of(plan, shard)
        assert alone.positions(shard) == plan.positions(shard)
        taken = plan.sources(np.asarray(plan.positions(shard)))
        for window, other in zip(alone.windows(shard), plan.windows(shard), strict=True):
            assert np.array_equal(window, other)
            assert np.array_equal(taken[alone.sources(window)], plan.sources(other))
