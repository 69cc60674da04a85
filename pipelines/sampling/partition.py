"""How the positions of an epoch are cut into steps and rank slices: pure arithmetic on integers.

    training     floor(N / B) steps; step s takes positions [s*B, (s+1)*B); the last N mod B positions are left out
    evaluation   ceil(N / B) steps; positions past N are padding
    rank r of W  positions s*B + [r*B // W, (r+1)*B // W) of step s:  B = 512, W = 3 gives 170, 171, 171

Every rank makes the same number of steps, and the slices of a step put together are the global batch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One rank's share of an epoch.

    Attributes:
        samples: N, samples of the (sub)set.
        global_batch_size: B, over all ranks.
        rank: 0 <= rank < world_size.
        world_size: W.
        evaluation: ceil(N / B) padded steps instead of floor(N / B) full ones.
    """

    samples: int
    global_batch_size: int
    rank: int = 0
    world_size: int = 1
    evaluation: bool = False

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(f"a rank must be in [0, world_size), got rank {self.rank} of {self.world_size}")
        if self.global_batch_size < self.world_size:
            raise ValueError(
                f"global_batch_size must be at least the number of ranks, got {self.global_batch_size} for "
                f"{self.world_size}; every rank needs a sample of every batch"
            )
        if self.samples < 1:
            raise ValueError("the set has no samples")
        if self.samples < self.global_batch_size and not self.evaluation:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is more than the {self.samples} samples there are; "
                "an epoch would have no step: make it smaller"
            )

    @property
    def steps(self) -> int:
        """Steps an epoch, equal on all ranks."""
        whole, rest = divmod(self.samples, self.global_batch_size)
        return whole + (1 if self.evaluation and rest else 0)

    @property
    def rank_batch_size(self) -> int:
        """Samples of this rank in a full step."""
        start, stop = self.bounds(0)
        return stop - start

    @property
    def used(self) -> int:
        """How many positions of an epoch are visited; those from here to `samples` are the remainder."""
        return self.samples if self.evaluation else self.steps * self.global_batch_size

    def bounds(self, step: int) -> tuple[int, int]:
        """Returns [start, stop) of this rank's positions in `step`; in an evaluation they may reach past `samples`."""
        if not 0 <= step < self.steps:
            raise IndexError(f"a step must be in [0, {self.steps}), got {step}")
        first = step * self.global_batch_size
        return (
            first + self.rank * self.global_batch_size // self.world_size,
            first + (self.rank + 1) * self.global_batch_size // self.world_size,
        )
