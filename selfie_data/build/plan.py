"""The plan: which image of the source goes to which place of which shard. Fixed before anything is encoded.

A keyed bijection takes plan positions to source indices in O(1) memory, so a shuffle of 10^9 images costs nothing;
shard s holds positions [s·k, (s+1)·k). A shard's bytes therefore depend on no other shard: each is a task of its own
that may be done anywhere, any number of times.

    position   0 1 2 3 | 4 5 6 7 | 8 9        samples_per_shard k = 4
    source     7 2 9 0 | 4 1 8 3 | 6 5        permutation(position)

What lies far away is read by blocks: images that are neighbours there stay together, and one request brings many.

    blocks     (0 1 2) (3 4 5) (6 7 8) (9)
    laid out   6 7 8 3 | 4 5 9 0 | 1 2        the blocks in the order of another bijection
    source     7 3 6 8 | 0 5 9 4 | 2 1        and the images of a shard shuffled, window by window
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose, draw_words
from selfie_data.source import Blocks

WINDOW_BYTES = 256 << 20  # of a source, read and shuffled at once: what a worker's disk holds of it


class ShardPlan(Protocol):
    """What a shard task asks of a plan: `Plan`, or that of a dataset that is there (`restart.StoredPlan`)."""

    @property
    def samples(self) -> int: ...

    @property
    def shards(self) -> int: ...

    @property
    def by_blocks(self) -> bool:
        """Whether a window's images are neighbours in the source, to be read together."""

    def positions(self, shard: int) -> range | NDArray[np.int64]: ...

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]: ...

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        """Returns `positions` in the pieces that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What the plans here have in common: shard s holds positions [s·k, (s+1)·k).

    Attributes:
        samples: how many images are used: plan positions [0, samples).
        samples_per_shard: k >= 1.
    """

    samples: int
    samples_per_shard: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.samples // self.samples_per_shard)

    def positions(self, shard: int) -> range:
        """Returns the plan positions that shard number `shard` holds."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"shards are 0 to {self.shards - 1}, got {shard}")
        start = shard * self.samples_per_shard
        return range(start, min(start + self.samples_per_shard, self.samples))

    def check(self, size: int) -> None:
        """Raises a ValueError unless the samples are some of `size` images, and shards hold any."""
        if not 1 <= self.samples <= size:
            raise ValueError(f"a plan takes 1 to {size} images, got {self.samples}")
        if self.samples_per_shard < 1:
            raise ValueError(f"a shard holds at least one sample, got {self.samples_per_shard}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Runs):
    """Where everything goes. The samples are a random part of the source.

    Attributes:
        size: images in the source.
        seed: 0 <= seed < 2**64.
    """

    size: int
    seed: int
    _permutation: Permutation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check(self.size)
        object.__setattr__(self, "_permutation", Permutation(size=self.size, seed=self.seed, purpose=Purpose.PLAN))

    @property
    def by_blocks(self) -> bool:
        return False

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns the source indices at plan positions."""
        return self._permutation(positions)

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        """Returns all positions of the shard at once: each image is read by itself."""
        return [np.asarray(self.positions(shard))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockPlan(Runs):
    """Where everything goes when blocks of neighbours stay together: O(blocks) memory.

    A part of the source takes the same share of every block, rounded up or down: a run of its images from a place that
    is drawn, going on at the block's beginning. Every image is equally likely to be in it, every class has its share.

    Attributes:
        blocks: of the source.
        seed: 0 <= seed < 2**64.
        window_bytes: of the source that are read and shuffled at once, up to a block more.
    """

    blocks: Blocks
    seed: int
    window_bytes: int = WINDOW_BYTES
    _order: NDArray[np.int64] = field(init=False, repr=False)
    _first: NDArray[np.int64] = field(init=False, repr=False)
    _ends: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.check(self.size)
        starts, count = self.blocks.starts, len(self.blocks)
        words = draw_words(self.seed, 0, np.arange(count + 1), Purpose.PLAN_SHARE)[:, 0].astype(np.int64)
        taken = starts  # of images before each block, those that are used
        if self.samples < self.size:
            rounding = int(words[count]) * self.size >> 32
            shares = [(self.samples * start + rounding) // self.size for start in starts.tolist()]  # beyond 64 bits
            taken = np.array(shares, dtype=np.int64)
        order = Permutation(size=count, seed=self.seed, purpose=Purpose.PLAN_BLOCKS)(np.arange(count))
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_first", words[:count] * np.diff(starts) >> 32)
        object.__setattr__(self, "_ends", np.cumsum(np.diff(taken)[order]))

    @property
    def size(self) -> int:
        """Images in the source."""
        return int(self.blocks.starts[-1])

    @property
    def by_blocks(self) -> bool:
        return True

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        """Returns the shard's positions by the blocks that are read at once: as many as `window_bytes` holds."""
        positions = np.asarray(self.positions(shard))
        first, last = np.searchsorted(self._ends, positions[[0, -1]], side="right").tolist()
        places = np.arange(first, last + 1)
        read = self.blocks.bytes[self._order[places]] * self.samples // self.size  # of a part, its share
        full = np.flatnonzero(np.diff((np.cumsum(read) - read) // self.window_bytes))
        return [window for window in np.split(positions, self._ends[places[full]] - positions[0]) if len(window)]

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns the source indices at plan positions."""
        wanted = np.asarray(positions, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.samples:
            raise IndexError(f"positions must be in [0, {self.samples}), got {wanted.min()} to {wanted.max()}")
        laid = np.empty_like(wanted)
        for shard in np.unique(wanted // self.samples_per_shard).tolist():
            for number, window in enumerate(self.windows(shard)):
                inside = (window[0] <= wanted) & (wanted <= window[-1])
                shuffle = Permutation(
                    size=len(window), seed=self.seed, purpose=Purpose.PLAN_WINDOW, epoch=shard, stream=number
                )
                laid[inside] = window[0] + shuffle(wanted[inside] - window[0])
        return self._images(laid)

    def _images(self, laid: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the images at places of the layout, in which whole blocks follow each other."""
        place = np.searchsorted(self._ends, laid, side="right")
        block = self._order[place]
        starts, count = self.blocks.starts[block], self.blocks.starts[block + 1] - self.blocks.starts[block]
        before = np.where(place > 0, self._ends[place - 1], 0)
        first = self._first[block] if self.samples < self.size else 0
        return starts + (first + laid - before) % count


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShard:
    """One shard of another plan, for a source that holds its images and no others, in its order.

    Attributes:
        number: the shard's, which it keeps.
        place: its positions in the plan.
        cuts: positions at which windows begin, the first one apart.
        by_blocks: the plan's.
    """

    number: int
    place: range
    cuts: tuple[int, ...]
    by_blocks: bool

    @classmethod
    def of(cls, plan: ShardPlan, shard: int) -> "OneShard":
        """Returns a shard of a plan whose positions are a range."""
        windows = plan.windows(shard)
        start, end = int(windows[0][0]), int(windows[-1][-1]) + 1
        cuts = tuple(int(window[0]) for window in windows[1:])
        return cls(number=shard, place=range(start, end), cuts=cuts, by_blocks=plan.by_blocks)

    @property
    def samples(self) -> int:
        return len(self.place)

    @property
    def shards(self) -> int:
        return self.number + 1

    def positions(self, shard: int) -> range:
        if shard != self.number:
            raise IndexError(f"this is shard {self.number}, got {shard}")
        return self.place

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        return np.split(np.asarray(self.positions(shard)), np.array(self.cuts, dtype=np.int64) - self.place.start)

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        return np.asarray(positions, dtype=np.int64) - self.place.start
