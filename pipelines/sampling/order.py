"""Which sample stands at which position of an epoch: keyed bijections evaluated in blocks, never a stored permutation.

    global shuffle   position x of epoch e holds sample  P(x),  P = Permutation(N, seed, EPOCH_ORDER, e)
    block shuffle    the shards are shuffled (SHARD_ORDER) and taken `shard_window` at a time; inside each window
                     the samples are shuffled (WINDOW_ORDER, stream = number of the window)
    lanes            `lanes`: rows of a batch are of lanes, which have shards of their own
    evaluation       position x holds sample x

With a subset, "sample i" is the i-th of the subset's sorted ids. Nothing here knows of ranks or batch sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.partition import Partition
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose

VERSION = 1  # of the definitions above; stands in loader states
_CACHED_STEPS = 4_096  # bounds the list of rows where batches are tiny
_CACHED_POSITIONS = 65_536  # the bijection costs 0.7-2 us an id in blocks of 512, 0.1 us in blocks of this size


class EpochOrder(Protocol):
    """Returns indices into the (sub)set, int64 in [0, N), of positions of one epoch, int64 in [0, N)."""

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]: ...


def in_order(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of evaluations."""
    return positions


def global_shuffle(samples: int, seed: int, epoch: int) -> EpochOrder:
    """Returns the order in which every permutation of the whole set is as good as any other."""
    return Permutation(size=samples, seed=seed, purpose=Purpose.EPOCH_ORDER, epoch=epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShuffle:
    """Shuffled windows of shuffled shards: reads stay within `shard_window` shards at a time. O(shards) memory.

    Attributes:
        shard_samples: [shards] int64, samples of the (sub)set in each shard; shards without any are skipped.
        shard_window: how many shards are mixed with each other.
    """

    shard_samples: NDArray[np.int64]
    shard_window: int
    seed: int
    epoch: int
    _shards: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _starts: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _firsts: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.shard_window < 1:
            raise ValueError(f"a block shuffle needs a window of at least one shard, got {self.shard_window}")
        counts = np.asarray(self.shard_samples, dtype=np.int64)
        filled = np.flatnonzero(counts)
        order = Permutation(size=len(filled), seed=self.seed, purpose=Purpose.SHARD_ORDER, epoch=self.epoch)
        shards = filled[order(np.arange(len(filled)))]
        object.__setattr__(self, "_shards", shards)
        object.__setattr__(self, "_starts", np.concatenate(([0], np.cumsum(counts[shards]))))
        object.__setattr__(self, "_firsts", np.cumsum(counts) - counts)  # first index of each shard in the set

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the indices at `positions`."""
        window_starts = self._starts[:-1][:: self.shard_window]
        windows = np.searchsorted(window_starts, positions, side="right") - 1
        result = np.empty(len(positions), np.int64)
        for window in np.unique(windows):
            inside = windows == window
            result[inside] = self._in_window(int(window), positions[inside])
        return result

    def windows(self) -> Iterator[tuple[list[int], int, int]]:
        """Yields the shards of each window, and its first position and the one behind its last."""
        for first in range(0, len(self._shards), self.shard_window):
            shards = self._shards[first : first + self.shard_window].tolist()
            yield shards, int(self._starts[first]), int(self._starts[first + len(shards)])

    def _in_window(self, window: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        start = self._starts[window * self.shard_window]
        stop = self._starts[min((window + 1) * self.shard_window, len(self._shards))]
        shuffled = Permutation(
            size=int(stop - start), seed=self.seed, purpose=Purpose.WINDOW_ORDER, epoch=self.epoch, stream=window
        )
        place = start + shuffled(positions - start)  # where in the row of shuffled shards
        shard = np.searchsorted(self._starts, place, side="right") - 1
        indices: NDArray[np.int64] = self._firsts[self._shards[shard]] + place - self._starts[shard]
        return indices


class StepOrder:
    """Indices of one rank's slice, step by step, evaluated for many steps at once and kept until used up."""

    def __init__(self, order: EpochOrder, partition: Partition) -> None:
        self._order = order
        self._partition = partition
        self._block_steps = max(1, min(_CACHED_POSITIONS // partition.rank_batch_size, _CACHED_STEPS))
        self._first_step = 0
        self._rows: list[NDArray[np.int64]] = []

    def step(self, step: int) -> NDArray[np.int64]:
        """Returns the indices of `step`: one a position below N, so fewer than a full slice where padding begins."""
        index = step - self._first_step
        if not 0 <= index < len(self._rows):
            self._evaluate(step)
            index = 0
        return self._rows[index]

    def _evaluate(self, step: int) -> None:
        partition = self._partition
        last = min(step + self._block_steps, partition.steps)
        bounds = [partition.bounds(number) for number in range(step, last)]
        ranges = [np.arange(start, min(stop, partition.samples)) for start, stop in bounds]
        indices = self._order(np.concatenate(ranges))
        ends = np.cumsum([len(positions) for positions in ranges])
        self._first_step, self._rows = step, np.split(indices, ends[:-1])
