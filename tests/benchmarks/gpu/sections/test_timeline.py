"""What lies between steps is counted, what lies within them is not."""

import time
from itertools import repeat

import pytest

from benchmarks.gpu.sections.timeline import idle, summed


class Event:
    """A CUDA event whose time is given, in milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        self._at = milliseconds

    def elapsed_time(self, other: "Event") -> float:
        return other._at - self._at


@pytest.mark.parametrize("unit", [lambda ms: ms / 1000, Event], ids=["clock", "events"])
def test_gaps_between_steps_over_the_time_from_the_first_end_to_the_last(unit: type) -> None:
    # steps of 80 ms, gaps of 20 and 40 ms
    marks = [(unit(0.0), unit(80.0)), (unit(100.0), unit(180.0)), (unit(220.0), unit(300.0))]
    found = summed(marks, images=30)
    assert found.share == pytest.approx(60 / 220)
    assert found.images_per_s == pytest.approx(20 / 0.22)


def test_a_slow_loader_is_idle_time_and_a_slow_step_is_not() -> None:
    def slow() -> object:
        while True:
            time.sleep(0.02)
            yield [0]

    assert idle(lambda _: None, slow(), "cpu", steps=3).share > 0.9  # type: ignore[arg-type]
    assert idle(lambda _: time.sleep(0.02), repeat([0]), "cpu", steps=3).share < 0.1
