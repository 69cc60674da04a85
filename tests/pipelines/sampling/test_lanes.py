import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sampling import lanes as lanes_module
from pipelines.sampling.lanes import LaneShuffle, check_lanes, default_lanes
from pipelines.sampling.partition import Partition
from tests.twins.lanes import lane_epoch


@st.composite
def shuffles(draw: st.DrawFn) -> LaneShuffle:
    lanes = draw(st.integers(1, 9))
    batch = lanes * draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(0, 40), min_size=1, max_size=25).filter(lambda counts: sum(counts) >= batch))
    return LaneShuffle(
        shard_samples=np.array(counts),
        global_batch_size=batch,
        lanes=lanes,
        window=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


epochs = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(shuffle=shuffles(), epoch=epochs)
def test_lanes_are_those_laid_out_by_hand(shuffle: LaneShuffle, epoch: int) -> None:
    batches, left_out = lane_epoch(
        shuffle.shard_samples.tolist(),
        batch=shuffle.global_batch_size,
        lanes=shuffle.lanes,
        window=shuffle.window,
        seed=shuffle.seed,
        epoch=epoch,
    )
    expected = [*(index for batch in batches for index in batch), *left_out]
    positions = np.arange(shuffle.samples)
    assert shuffle.order(epoch)(positions).tolist() == expected
    assert shuffle.order(epoch)(positions[::-3]).tolist() == expected[::-3]


@settings(max_examples=25, deadline=None)
@given(shuffle=shuffles(), epoch=epochs)
def test_an_epoch_has_every_sample_once(shuffle: LaneShuffle, epoch: int) -> None:
    assert sorted(shuffle.order(epoch)(np.arange(shuffle.samples)).tolist()) == list(range(shuffle.samples))
    assert shuffle.samples == shuffle.shard_samples.sum()


@settings(max_examples=25, deadline=None)
@given(shuffle=shuffles(), page=st.integers(1, 5))
def test_the_pages_of_sums_change_nothing(shuffle: LaneShuffle, page: int) -> None:
    expected = shuffle.order(1)(np.arange(shuffle.samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes_module, "_PAGE", page)
        small = LaneShuffle(**{one.name: getattr(shuffle, one.name) for one in dataclasses.fields(shuffle) if one.init})
        assert (small.order(1)(np.arange(shuffle.samples)) == expected).all()


def test_golden_order() -> None:
    """Breaking this changes the stream of every user: raise `order.VERSION` with it."""
    shuffle = LaneShuffle(shard_samples=np.full(20, 100), global_batch_size=64, lanes=8, seed=1, window=2)
    assert shuffle.order(2)(np.arange(0, 2000, 250)).tolist() == GOLDEN


GOLDEN = [45, 1466, 1231, 1025, 728, 1331, 549, 921]


@settings(max_examples=25, deadline=None)
@given(shuffle=shuffles(), epoch=epochs, world=st.integers(1, 12), from_step=st.integers(0, 5))
def test_the_reads_foretold_are_those_of_the_ranks(
    shuffle: LaneShuffle, epoch: int, world: int, from_step: int
) -> None:
    world = min(world, shuffle.global_batch_size)
    shard_of = np.repeat(np.arange(len(shuffle.shard_samples)), shuffle.shard_samples)
    order = shuffle.order(epoch)
    for rank in range(world):
        uses = list(shuffle.reads(rank, world, epoch, from_step))
        assert [use.first for use in uses] == sorted(use.first for use in uses)
        assert all(from_step <= use.first <= use.last < shuffle.steps for use in uses)
        part = Partition(
            samples=shuffle.samples, global_batch_size=shuffle.global_batch_size, rank=rank, world_size=world
        )
        needed = {
            (shard, step)
            for step in range(from_step, part.steps)
            for shard in shard_of[order(np.arange(*part.bounds(step)))].tolist()
        }
        foretold = {(use.shard, step) for use in uses for step in range(use.first, use.last + 1)}
        assert needed <= foretold
        if shuffle.lanes % world == 0 and from_step == 0:  # whole lanes: at most what the last step leaves of a window
            ends = {(use.shard, use.last) for use in uses if use.last == shuffle.steps - 1}
            unread = {use.shard for use in uses} - {shard for shard, _ in needed}
            assert unread <= {shard for shard, _ in ends}


@pytest.mark.parametrize(("world", "most"), [(1, 1.0), (2, 1.01), (3, 1.05), (8, 1.02), (12, 1.15), (32, 1.05)])
def test_a_cluster_reads_every_shard_about_once(world: int, most: float) -> None:
    counts = np.where(np.arange(2048) % 7, 500, 463)
    shuffle = LaneShuffle(shard_samples=counts, global_batch_size=4096, lanes=64, seed=0)
    ranks = [{use.shard for use in shuffle.reads(rank, world, 0)} for rank in range(world)]
    assert 0.99 <= sum(map(len, ranks)) / len(counts) <= most
    assert len(set.union(*ranks)) >= 0.99 * len(counts)
    again = [{use.shard for use in shuffle.reads(rank, world, 1)} for rank in range(world)]
    kept = [len(first & second) / len(second) for first, second in zip(ranks, again, strict=True)]
    assert min(kept) > 0.95  # a node's shards are its own in every epoch


def test_shards_of_a_lane_come_window_by_window() -> None:
    shuffle = LaneShuffle(shard_samples=np.full(40, 50), global_batch_size=20, lanes=1, seed=0, window=4)
    shards = shuffle.order(0)(np.arange(2000)) // 50
    for start in range(0, 2000, 200):
        assert len(set(shards[start : start + 200].tolist())) == 4


def test_epochs_and_seeds_have_orders_of_their_own_and_epochs_one_row() -> None:
    counts = np.full(64, 10)
    orders = {}
    for seed in (0, 1):
        shuffle = LaneShuffle(shard_samples=counts, global_batch_size=32, lanes=4, seed=seed)
        orders |= {(seed, epoch): shuffle.order(epoch)(np.arange(640)) for epoch in (0, 1)}
    assert len({tuple(order.tolist()) for order in orders.values()}) == 4
    assert set(orders[0, 0][:8] // 10) <= set(orders[0, 1][np.arange(640) % 32 < 8] // 10)  # lane 0 has its shards
    left = [LaneShuffle(shard_samples=counts, global_batch_size=36, lanes=4, seed=0).order(e)(np.arange(612, 640))
            for e in (0, 1)]  # fmt: skip
    assert set(left[0].tolist()) != set(left[1].tolist())


def test_every_sample_is_left_out_now_and_then() -> None:
    """600 samples in batches of 64 leave 24 out: in 400 epochs 16 times each, on average."""
    shuffle = LaneShuffle(shard_samples=np.full(30, 20), global_batch_size=64, lanes=8, seed=2)
    counts = np.zeros(600)
    for epoch in range(400):
        counts[shuffle.order(epoch)(np.arange(576, 600))] += 1
    assert counts.sum() == 400 * 24
    assert counts.min() > 0
    assert counts.max() < 80  # pieces of shards, at the ends of lanes, more often than others


def test_lanes_are_uniform_over_places_and_samples() -> None:
    """Chi-square of where each of 12 samples comes to stand over 1,200 seeds; 99.9 % point of 121 degrees is 174."""
    counts = np.zeros((12, 12))
    for seed in range(1200):
        shuffle = LaneShuffle(shard_samples=np.full(4, 3), global_batch_size=4, lanes=2, seed=seed, window=2)
        counts[shuffle.order(3)(np.arange(12)), np.arange(12)] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 174


def test_ten_thousand_million_samples_cost_a_rank_its_own_lanes() -> None:
    shards, ranks = 200_000, 1024
    counts = np.broadcast_to(np.int64(50_000), shards)  # without memory of its own
    tracemalloc.start()
    shuffle = LaneShuffle(shard_samples=counts, global_batch_size=65_536, lanes=1024, seed=0)
    part = Partition(samples=shuffle.samples, global_batch_size=65_536, rank=1000, world_size=ranks)
    indices = shuffle.order(5)(np.arange(*part.bounds(77_777)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert shuffle.samples == 10**10
    assert len(np.unique(indices)) == 64
    assert {use.shard for use in shuffle.reads(1000, ranks, 5, 77_777)} >= set((indices // 50_000).tolist())
    assert peak < 4 << 20  # bytes; an array of all shards would be 1.6 MB, one of all samples 80 GB


@pytest.mark.parametrize(("batch", "lanes"), [(512, 64), (4096, 64), (100, 50), (10, 10), (48, 48), (127, 1), (1, 1)])
def test_the_default_is_the_most_lanes_up_to_64(batch: int, lanes: int) -> None:
    assert default_lanes(batch) == lanes
    check_lanes(lanes, batch)


@pytest.mark.parametrize(
    ("batch", "lanes", "near"), [(512, 48, "16, 32, 64"), (512, 0, "1, 2, 4"), (10, 64, "2, 5, 10"), (7, 3, "1, 7")]
)
def test_lanes_that_do_not_divide_the_batch_are_refused_and_others_named(batch: int, lanes: int, near: str) -> None:
    with pytest.raises(ValueError, match=f"got {lanes} lanes for batches of {batch}; near it do {near}$"):
        check_lanes(lanes, batch)


def test_what_cannot_be_laid_out_is_refused() -> None:
    common = {"global_batch_size": 4, "lanes": 2, "seed": 0}
    with pytest.raises(ValueError, match="at least one shard, got 0"):
        LaneShuffle(shard_samples=np.array([9]), window=0, **common)
    with pytest.raises(ValueError, match="no samples"):
        LaneShuffle(shard_samples=np.array([0, 0]), **common)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        LaneShuffle(shard_samples=np.array([9]), **common).reads(2, 2, 0)
