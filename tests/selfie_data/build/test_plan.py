"""The plan: which source image goes where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from selfie_data.build.plan import Plan
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose
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
