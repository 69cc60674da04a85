"""What is told of an epoch's reads is what an order reads: never too little, in steps that rise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sampling.order import BlockShuffle, EpochOrder, global_shuffle, in_order
from pipelines.sampling.partition import Partition
from pipelines.sampling.reads import block_reads, global_reads, ordered_reads

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda counts: sum(counts) > 0)


@pytest.mark.parametrize("kind", ["global", "blocks", "evaluation"])
@given(counts=COUNTS, batch=st.integers(1, 12), world=st.integers(1, 5), window=st.integers(1, 5), data=st.data())
def test_every_shard_that_a_step_reads_is_told_of(
    kind: str, counts: list[int], batch: int, world: int, window: int, data: st.DataObject
) -> None:
    samples, world = np.array(counts), min(world, batch)
    rank = data.draw(st.integers(0, world - 1))
    total, evaluation = int(samples.sum()), kind == "evaluation"
    partition = Partition(
        samples=total,
        global_batch_size=batch if evaluation else min(batch, total),
        rank=min(rank, min(batch, total) - 1),
        world_size=world if evaluation else min(world, total),
        evaluation=evaluation,
    )
    from_step = data.draw(st.integers(0, partition.steps - 1))
    order: EpochOrder
    if kind == "blocks":
        order = shuffle = BlockShuffle(shard_samples=samples, shard_window=window, seed=3, epoch=1)
        uses = list(block_reads(shuffle, partition, from_step))
    elif kind == "global":
        order, uses = global_shuffle(total, 3, 1), list(global_reads(samples, partition, from_step))
    else:
        order, uses = in_order, list(ordered_reads(samples, partition, from_step))
    assert [use.first for use in uses] == sorted(use.first for use in uses)
    assert all(from_step <= use.first <= use.last < partition.steps for use in uses)
    ends = np.cumsum(samples)
    for step in range(from_step, partition.steps):
        start, stop = partition.bounds(step)
        read = np.searchsorted(ends, order(np.arange(start, min(stop, total))), side="right")
        told = {use.shard for use in uses if use.first <= step <= use.last}
        assert set(read.tolist()) <= told
        if evaluation and step in {use.first for use in uses} | {use.last for use in uses}:
            ending = {use.shard for use in uses if step in (use.first, use.last)}
            assert step == from_step or ending <= set(read.tolist())  # and of no other shard


def test_an_evaluation_tells_of_no_shard_of_another_rank() -> None:
    partition = Partition(samples=100, global_batch_size=100, rank=1, world_size=4, evaluation=True)
    assert [use.shard for use in ordered_reads(np.full(10, 10), partition)] == [2, 3, 4]
