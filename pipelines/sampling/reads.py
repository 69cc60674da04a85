"""Which shards a rank reads in an epoch, and in which steps, told without looking at a sample; `lanes` tells its own.

For fetching ahead, and for a cache that drops what is needed last: a use may be told of that no sample comes of, but no
sample comes of a shard at a step that is not told of.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.order import BlockShuffle
from pipelines.sampling.partition import Partition


class ShardUse(NamedTuple):
    """A shard, and the first and last step that may take samples of it."""

    shard: int
    first: int
    last: int


def uses_from(from_step: int, shards: list[int], first: int, last: int) -> Iterator[ShardUse]:
    """Yields what is left, at `from_step`, of the use of shards in steps `first` to `last`; nothing if it is over."""
    first = max(first, from_step)
    return (ShardUse(shard, first, last) for shard in (shards if first <= last else ()))


def global_reads(shard_samples: NDArray[np.int64], partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields every shard that holds samples, for all steps."""
    return uses_from(from_step, np.flatnonzero(shard_samples).tolist(), 0, partition.steps - 1)


def block_reads(shuffle: BlockShuffle, partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields the shards of each window, for the steps that have rows of it: every rank has some of every step."""
    for shards, start, stop in shuffle.windows():
        first = start // partition.global_batch_size
        last = min((stop - 1) // partition.global_batch_size, partition.steps - 1)
        yield from uses_from(from_step, shards, first, last)


def ordered_reads(shard_samples: NDArray[np.int64], partition: Partition, from_step: int = 0) -> Iterator[ShardUse]:
    """Yields what a rank reads of an evaluation, rising by first step."""
    stops = np.cumsum(shard_samples)
    for shard in np.flatnonzero(shard_samples).tolist():
        if steps := _steps_with(partition, int(stops[shard] - shard_samples[shard]), int(stops[shard])):
            yield from uses_from(from_step, [shard], steps[0], steps[-1])


def _steps_with(partition: Partition, start: int, stop: int) -> list[int]:
    """Returns the first and the last steps of which this rank has some of positions [start, stop)."""
    first, last = start // partition.global_batch_size, (stop - 1) // partition.global_batch_size
    ends = sorted({first, min(first + 1, last), max(last - 1, first), last})  # steps between these lie in it whole
    bounds = [(step, *partition.bounds(step)) for step in ends]
    return [step for step, low, high in bounds if max(low, start) < min(high, stop)]
