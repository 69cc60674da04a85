"""The plan: which image of the source goes to which place of which shard. Fixed before anything is encoded.

A keyed bijection takes plan positions to source indices in O(1) memory, so a shuffle of 10^9 images costs nothing;
shard s holds positions [s·k, (s+1)·k). A shard's bytes therefore depend on no other shard: each is a task of its own
that may be done anywhere, any number of times.

    position   0 1 2 3 | 4 5 6 7 | 8 9        samples_per_shard k = 4
    source     7 2 9 0 | 4 1 8 3 | 6 5        permutation(position)
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose


class ShardPlan(Protocol):
    """What a shard task asks of a plan: `Plan`, or that of a dataset that is there (`restart.StoredPlan`)."""

    @property
    def samples(self) -> int: ...

    @property
    def shards(self) -> int: ...

    def positions(self, shard: int) -> range | NDArray[np.int64]: ...

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where everything goes.

    Attributes:
        size: images in the source.
        samples: how many of them are used: plan positions [0, samples), a random sample of the source.
        samples_per_shard: k >= 1.
        seed: 0 <= seed < 2**64.
    """

    size: int
    samples: int
    samples_per_shard: int
    seed: int
    _permutation: Permutation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= self.size:
            raise ValueError(f"a plan takes 1 to {self.size} images, got {self.samples}")
        if self.samples_per_shard < 1:
            raise ValueError(f"a shard holds at least one sample, got {self.samples_per_shard}")
        object.__setattr__(self, "_permutation", Permutation(size=self.size, seed=self.seed, purpose=Purpose.PLAN))

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

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns the source indices at plan positions."""
        return self._permutation(positions)
