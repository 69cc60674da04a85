"""Which source image goes to which place of which shard, fixed before anything is encoded.

    plan position x  holds source image  P(x),  P = Permutation(N, seed, PLAN)
    shard s          holds plan positions [s·k, (s+1)·k)

The plan needs no memory, so it works for any N, and every shard is a task of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfie_data.permutation import Permutation
from selfie_data.philox import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a build.

    Attributes:
        source_images: N, images the source has.
        positions: how many plan positions are used, <= N: fewer with a limit, which takes a random part.
        shard_positions: k, plan positions a shard.
        seed: 0 <= seed < 2**64.
    """

    source_images: int
    positions: int
    shard_positions: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.positions <= self.source_images:
            raise ValueError(f"a plan needs 1 to {self.source_images} positions, got {self.positions}")
        if self.shard_positions < 1:
            raise ValueError(f"a shard needs at least one sample, got {self.shard_positions}")

    @property
    def shards(self) -> int:
        """Number of shards; the last may hold fewer positions."""
        return -(-self.positions // self.shard_positions)

    def shard(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the plan positions of a shard and their source indices, int64 [k] each."""
        first = number * self.shard_positions
        positions = np.arange(first, min(first + self.shard_positions, self.positions))
        return positions, self.source_indices(positions)

    def source_indices(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the source indices at plan positions."""
        return Permutation(size=self.source_images, seed=self.seed, purpose=Purpose.PLAN)(positions)
