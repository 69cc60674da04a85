"""The plan: which source image goes where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.plan import Plan


@given(images=st.integers(1, 500), share=st.floats(0, 1), per_shard=st.integers(1, 600), seed=st.integers(0, 2**64 - 1))
def test_every_image_has_one_place(images: int, share: float, per_shard: int, seed: int) -> None:
    positions = max(1, int(images * share))
    plan = Plan(source_images=images, positions=positions, shard_positions=per_shard, seed=seed)
    shards = [plan.shard(number) for number in range(plan.shards)]
    assert np.concatenate([shard[0] for shard in shards]).tolist() == list(range(positions))
    indices = np.concatenate([shard[1] for shard in shards])
    assert len(np.unique(indices)) == positions
    assert ((indices >= 0) & (indices < images)).all()
    assert all(len(shard[0]) == per_shard for shard in shards[:-1])


def test_a_billion_images_cost_nothing() -> None:
    plan = Plan(source_images=10**9, positions=10**9, shard_positions=1000, seed=3)
    positions, indices = plan.shard(plan.shards - 1)
    assert positions[-1] == 10**9 - 1
    assert len(np.unique(indices)) == 1000


def test_a_limit_takes_a_random_part() -> None:
    part = Plan(source_images=1000, positions=100, shard_positions=100, seed=0)
    whole = Plan(source_images=1000, positions=1000, shard_positions=100, seed=0)
    assert np.array_equal(part.shard(0)[1], whole.shard(0)[1])
    assert part.shard(0)[1].max() > 500


@pytest.mark.parametrize(("positions", "per_shard"), [(0, 1), (11, 1), (5, 0)])
def test_impossible_plans_are_refused(positions: int, per_shard: int) -> None:
    with pytest.raises(ValueError, match="needs"):
        Plan(source_images=10, positions=positions, shard_positions=per_shard, seed=0)
