import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sampling.partition import Partition


@st.composite
def epochs(draw: st.DrawFn, evaluation: bool) -> list[Partition]:
    """All ranks of one epoch."""
    world = draw(st.integers(1, 8))
    batch = draw(st.integers(world, 64))
    samples = draw(st.integers(1 if evaluation else batch, 600))
    return [
        Partition(samples=samples, global_batch_size=batch, rank=rank, world_size=world, evaluation=evaluation)
        for rank in range(world)
    ]


def positions_of(parts: list[Partition]) -> list[int]:
    seen = []
    for step in range(parts[0].steps):
        for part in parts:
            seen.extend(range(*part.bounds(step)))
    return seen


@given(epochs(evaluation=False))
def test_training_sees_every_position_once_but_the_remainder(parts: list[Partition]) -> None:
    part = parts[0]
    assert len({one.steps for one in parts}) == 1
    assert positions_of(parts) == list(range(part.used))
    assert part.samples - part.used == part.samples % part.global_batch_size


@given(epochs(evaluation=True))
def test_an_evaluation_sees_every_position_once_and_pads_less_than_a_step(parts: list[Partition]) -> None:
    part = parts[0]
    seen = positions_of(parts)
    assert seen == list(range(part.steps * part.global_batch_size))
    assert part.used == part.samples
    assert 0 <= len(seen) - part.samples < part.global_batch_size


@given(epochs(evaluation=False))
def test_slices_of_a_step_differ_by_one_at_most_and_keep_their_size(parts: list[Partition]) -> None:
    sizes = [part.rank_batch_size for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    last = parts[0].steps - 1
    assert [stop - start for start, stop in (part.bounds(last) for part in parts)] == sizes


def test_512_over_3_ranks() -> None:
    parts = [Partition(samples=5000, global_batch_size=512, rank=rank, world_size=3) for rank in range(3)]
    assert [part.rank_batch_size for part in parts] == [170, 171, 171]
    assert np.diff([part.bounds(3)[0] for part in parts]).tolist() == [170, 171]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 10, "global_batch_size": 11}, "more than the 10 samples"),
        ({"samples": 10, "global_batch_size": 2, "world_size": 3}, "at least the number of ranks, got 2 for 3"),
        ({"samples": 10, "global_batch_size": 2, "rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"samples": 10, "global_batch_size": 2, "rank": -1, "world_size": 2}, "rank -1 of 2"),
        ({"samples": 0, "global_batch_size": 2, "evaluation": True}, "no samples"),
    ],
)
def test_what_cannot_be_cut_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Partition(**arguments)


def test_a_step_outside_the_epoch_is_refused() -> None:
    with pytest.raises(IndexError, match=r"\[0, 2\), got 2"):
        Partition(samples=5, global_batch_size=2).bounds(2)
