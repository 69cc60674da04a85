import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sampling import order
from pipelines.sampling.order import BlockShuffle, StepOrder, global_shuffle, in_order
from pipelines.sampling.partition import Partition
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose

shard_counts = st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(sum)


def test_global_shuffle_is_the_published_permutation() -> None:
    expected = Permutation(size=1000, seed=7, purpose=Purpose.EPOCH_ORDER, epoch=3)
    positions = np.arange(1000)
    assert (global_shuffle(1000, 7, 3)(positions) == expected(positions)).all()


def test_golden_order() -> None:
    """Breaking this changes the stream of every user: raise `order.VERSION` with it."""
    assert global_shuffle(50_000, 1, 2)(np.arange(6)).tolist() == GOLDEN_GLOBAL
    blocks = BlockShuffle(shard_samples=np.full(10, 100), shard_window=3, seed=1, epoch=2)
    assert blocks(np.arange(0, 1000, 200)).tolist() == GOLDEN_BLOCKS
    assert order.VERSION == 1


GOLDEN_GLOBAL = [36351, 17180, 24993, 18032, 20198, 38267]
GOLDEN_BLOCKS = [77, 215, 954, 593, 895]


@given(counts=shard_counts, window=st.integers(1, 25), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1))
def test_block_shuffle_is_a_permutation(counts: list[int], window: int, seed: int, epoch: int) -> None:
    shuffle = BlockShuffle(shard_samples=np.array(counts), shard_window=window, seed=seed, epoch=epoch)
    positions = np.arange(sum(counts))
    whole = shuffle(positions)
    assert sorted(whole.tolist()) == positions.tolist()
    some = positions[::-3]
    assert (shuffle(some) == whole[some]).all()


@given(counts=shard_counts, window=st.integers(1, 5))
def test_block_shuffle_reads_a_window_of_shards_at_a_time(counts: list[int], window: int) -> None:
    shuffle = BlockShuffle(shard_samples=np.array(counts), shard_window=window, seed=3, epoch=1)
    shard_of = np.repeat(np.arange(len(counts)), counts)
    shards = shard_of[shuffle(np.arange(sum(counts)))]
    visits = [shard for index, shard in enumerate(shards) if index == 0 or shards[index - 1] != shard]
    open_shards: list[set[int]] = []
    for shard in visits:
        if not open_shards or (shard not in open_shards[-1] and len(open_shards[-1]) == window):
            open_shards.append(set())
        open_shards[-1].add(shard)
    flat = [shard for block in open_shards for shard in block]
    assert len(flat) == len(set(flat))  # no shard is needed again once its window is over


def test_orders_differ_between_epochs_and_seeds() -> None:
    positions, counts = np.arange(100), np.full(10, 10)
    orders = {
        tuple(make(seed, epoch)(positions).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for make in (
            lambda s, e: global_shuffle(100, s, e),
            lambda s, e: BlockShuffle(shard_samples=counts, shard_window=3, seed=s, epoch=e),
        )
    }
    assert len(orders) == 8


def test_block_shuffle_is_uniform_over_positions_and_samples() -> None:
    """Chi-square of where each of 12 samples comes to stand over 4,800 epochs; 99.9 % point of 121 degrees is 174."""
    counts = np.zeros((12, 12))
    for epoch in range(4800):
        elements = BlockShuffle(shard_samples=np.full(4, 3), shard_window=2, seed=5, epoch=epoch)(np.arange(12))
        counts[elements, np.arange(12)] += 1
    assert ((counts - 400) ** 2 / 400).sum() < 174


def test_a_window_of_no_shard_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one shard, got 0"):
        BlockShuffle(shard_samples=np.array([3]), shard_window=0, seed=0, epoch=0)


@pytest.mark.parametrize("block", [1, 7, 65_536])
@pytest.mark.parametrize("evaluation", [False, True])
def test_steps_give_the_order_whatever_the_block(block: int, evaluation: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_CACHED_POSITIONS", block)
    shuffle = in_order if evaluation else global_shuffle(103, 1, 0)
    steps = {}
    for rank in range(3):
        part = Partition(samples=103, global_batch_size=10, rank=rank, world_size=3, evaluation=evaluation)
        ours = StepOrder(shuffle, part)
        for step in [*range(part.steps), 4, 2, 0]:  # forth, and back as after a resume
            steps[step, rank] = ours.step(step).tolist()
    whole = [index for key in sorted(steps) for index in steps[key]]
    used = 103 if evaluation else 100
    assert whole == shuffle(np.arange(used)).tolist()
