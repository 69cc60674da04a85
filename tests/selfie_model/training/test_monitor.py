"""Speed, waiting and lines of a running training, on a clock that the test turns."""

import math
import time

import pytest

from selfie_data.errors import DivergedError
from selfie_model.config import TrainConfig
from selfie_model.training.evaluate import Metrics
from selfie_model.training.monitor import Monitor

TRAIN = TrainConfig(steps=40, batch_size=10)
WINDOW = Metrics(1.25, 0.5, 100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def monitor(*, first_step: int = 0, visible: bool = True) -> Monitor:
    return Monitor("pretrain", TRAIN, chance=0.25, first_step=first_step, first_loss=math.nan, visible=visible)


def test_a_lap_tells_speed_waiting_and_the_time_that_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    watching = monitor(first_step=8)
    for _ in range(4):
        with watching.waiting():
            clock[0] += 0.5
        clock[0] += 1.5
        watching.step()
    assert watching.lap(12, WINDOW) == (5.0, 0.25)
    assert capsys.readouterr().err == (
        "pretrain: step 12/40: loss 1.250, accuracy 50.0% (chance 25.0%), 5 images/s, waiting for data 25%, "
        "00:56 left\n"
    )
    clock[0] += 1000
    watching.restart()  # what passed is no training
    clock[0] += 1
    watching.step()
    assert watching.lap(13, WINDOW) == (10.0, 0.0)
    assert watching.overall() == pytest.approx(50 / 9)


class TimedEvent:
    """An event of a GPU whose clock the test turns; the host's stands still, as if it never waited."""

    now_ms = 0.0

    def record(self) -> None:
        self.at_ms = TimedEvent.now_ms

    def elapsed_time(self, end_event: "TimedEvent") -> float:
        return end_event.at_ms - self.at_ms


def test_on_a_gpu_waiting_is_what_lies_between_steps_there(clock: list[float]) -> None:
    watching = Monitor(
        "pretrain", TRAIN, chance=0.25, first_step=0, first_loss=math.nan, visible=False, make_event=TimedEvent
    )
    for lap in (1, 2):
        for gap_ms in (500.0, 30.0, 50.0):  # before a lap's first step metrics were fetched and written
            with watching.waiting():
                clock[0] += 0.9  # the host waits for a step to end, which is no waiting for data
                TimedEvent.now_ms += gap_ms
            TimedEvent.now_ms += 100.0
            watching.step()
            clock[0] += 0.1
        assert watching.lap(3 * lap, WINDOW) == (pytest.approx(10.0), pytest.approx((30 + 50) / 3000))


def test_nothing_is_shown_where_nothing_is_wanted(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    watching = monitor(visible=False)
    watching.lap(1, WINDOW)
    watching.say("x")
    watching.close()
    assert capsys.readouterr().err == ""
    assert clock == [100.0]


def test_a_loss_is_judged_by_where_it_began() -> None:
    watching = monitor(visible=False)
    assert watching.check_loss(10, 3.0) == 3.0
    assert watching.check_loss(20, 29.9) == 3.0
    for loss in (30.1, math.nan, math.inf):
        with pytest.raises(DivergedError, match=r"at step 30, it began at 3: .* rate \(0.1\) .* warm-up \(100\)"):
            watching.check_loss(30, loss)
    assert monitor(visible=False).check_loss(10, 1e-3) == 1e-3
