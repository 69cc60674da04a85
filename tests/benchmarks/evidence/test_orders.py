import itertools
import random

import numpy as np
import pytest

from benchmarks.evidence.orders import cache_hits, hypergeometric_distance, shard_uses
from pipelines.sampling.lanes import LaneShuffle


def test_the_expected_distance_is_that_of_fair_draws() -> None:
    labels, generator = np.arange(1000) * 10 // 1000, np.random.default_rng(0)
    drawn = [np.bincount(labels[generator.choice(1000, 50, replace=False)], minlength=10) / 50 for _ in range(4000)]
    assert hypergeometric_distance(1000, 10, 50) == pytest.approx(
        np.abs(np.array(drawn) - 0.1).sum(1).mean() / 2, rel=0.01
    )


@pytest.mark.parametrize("seed", range(20))
def test_farthest_next_use_finds_as_much_as_any_choice_of_what_to_drop(seed: int) -> None:
    """Two epochs of five shards in a cache of two, every way to drop one tried."""
    generator = random.Random(seed)
    uses = [generator.sample(range(5), 5) for _ in range(2)]
    row, states = uses[0] + uses[1], {frozenset[int](): 0}
    for at, shard in enumerate(row):
        after: dict[frozenset[int], int] = {}
        for kept, found in states.items():
            held = kept | {shard}
            choices = [held] if len(held) <= 2 else [held - {gone} for gone in held]
            for choice in choices:
                after[choice] = max(after.get(choice, 0), found + (at >= 5 and shard in kept))
        states = after
    farthest, recent = cache_hits(uses, 0.4)
    assert round(farthest * 5) == max(states.values())
    assert recent <= farthest


def test_what_a_node_reads_is_what_its_ranks_read() -> None:
    shuffle = LaneShuffle(shard_samples=np.full(64, 20), global_batch_size=64, lanes=16, seed=0)
    node = shard_uses(shuffle, node=1, nodes=4, epochs=2)
    for epoch, shards in enumerate(node):
        ranks = (shuffle.reads(rank, 8, epoch) for rank in (2, 3))
        assert sorted(shards) == sorted(use.shard for use in itertools.chain(*ranks))
