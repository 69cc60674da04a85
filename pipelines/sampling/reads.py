"""Which shards a rank reads in an epoch, and in which steps, told without looking at a sample; of lanes, they tell.

For fetching ahead, and for a cache that drops what is needed last: a use may be told of that no sample comes of, but no
sample comes of a shard at a step that is not told of.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.lanes import ShardUse
from pipelines.sampling.order import BlockShuffle
from pipelines.sampling.partition import Partition


def global_reads(shard_samples: NDArray[np.int64], partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields every shard that holds samples, for all steps."""
    last = partition.steps - 1
    return (ShardUse(shard, from_step, last) for shard in np.flatnonzero(shard_samples).tolist())


def block_reads(shuffle: BlockShuffle, partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields the shards of each window, for the steps that have rows of it: every rank has some of every step."""
    for shards, start, stop in shuffle.windows():
        first = start // partition.global_batch_size
        last = min((stop - 1) // partition.global_batch_size, partition.steps - 1)
        if max(first, from_step) <= last:
            yield from (ShardUse(shard, max(first, from_step), last) for shard in shards)


def ordered_reads(shard_samples: NDArray[np.int64], partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields what a rank reads of an evaluation, rising by first step."""
    stops = np.cumsum(shard_samples)
    for shard, stop in enumerate(stops.tolist()):
        start = stop - int(shard_samples[shard])
        steps = _steps_with(partition, start, stop) if start < stop else []
        if steps and steps[-1] >= from_step:
            yield ShardUse(shard, max(steps[0], from_step), steps[-1])


def _steps_with(partition: Partition, start: int, stop: int) -> list[int]:
    """Returns the first and the last steps of which this rank has some of positions [start, stop)."""
    first, last = start // partition.global_batch_size, (stop - 1) // partition.global_batch_size
    ends = sorted({first, min(first + 1, last), max(last - 1, first), last})  # steps between these lie in it whole
    bounds = [(step, *partition.bounds(step)) for step in ends]
    return [step for step, low, high in bounds if max(low, start) < min(high, stop)]
