"""What watches a training: how fast it runs, what a person sees of it, and the two ways it fails without crashing.

A bar on a terminal, a line now and then in a log file:
pretrain  40% 160/400 [01:12<01:48] loss 1.352, accuracy 31.2 % (chance 25.0 %), 540 images/s, waiting for data 2 %

Nothing here waits for the device. On a CPU the loader's share of the time is what the trainer waits for it. On a GPU
that says nothing, since the host waits there for steps as well as for batches: the share is what lies, on the device,
between the end of a step and the beginning of the next, told by events that are read when the metrics are fetched.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self

import torch
from tqdm import tqdm

from selfie_data.errors import DivergedError
from selfie_model.config import TrainConfig
from selfie_model.training.evaluate import Metrics

_DIVERGED = 10.0  # times the larger of the first loss and chance's; the least that no learning run has come near
_CHANCE_MARGIN = 0.02  # two points
_CHANCE_AFTER = 0.25  # of the steps


class Event(Protocol):
    """A point in a GPU's work; what torch.cuda.Event has of it."""

    def record(self) -> None: ...

    def elapsed_time(self, end_event: Self) -> float:
        """Returns the milliseconds to a later one, both reached."""
        ...


def timing_event() -> Event:
    """Returns an event of the current CUDA stream."""
    event: Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    return event


class Monitor:
    """Sees every step of one process's training.

    Args:
        name: `pretrain` or `finetune`, before every line.
        train: what is being trained.
        chance: accuracy of guessing.
        first_step: optimiser steps done before this process began.
        first_loss: of the run's first window of steps, NaN if that is still to come.
        visible: whether anything is shown.
        make_event: `timing_event` where a GPU computes; None = by the host's clock.
    """

    def __init__(
        self,
        name: str,
        train: TrainConfig,
        *,
        chance: float,
        first_step: int,
        first_loss: float,
        visible: bool,
        make_event: Callable[[], Event] | None = None,
    ) -> None:
        self.first_loss = first_loss
        self._name, self._train, self._chance, self._first_step = name, train, chance, first_step
        self._make_event = make_event
        self._step_end: Event | None = None
        self._gaps: list[tuple[Event, Event]] = []  # of each step but a lap's first: the last one's end, its beginning
        self._warned = False
        self._visible, self._is_bar = visible, visible and sys.stderr.isatty()
        self._bar = tqdm(
            total=train.steps, initial=first_step, desc=name, unit="step", disable=not self._is_bar, dynamic_ncols=True
        )
        self._began_s = time.perf_counter()
        self._all_images, self._all_s = 0, 0.0
        self.restart()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data; on a GPU, what it stands idle until here."""
        start_s = time.perf_counter()
        yield
        if self._make_event is None:
            self._waited_s += time.perf_counter() - start_s
        elif self._step_end is not None:
            self._gaps.append((self._step_end, self._marked()))

    def step(self) -> None:
        """One optimiser step is done."""
        self._images += self._train.batch_size
        if self._make_event is not None:
            self._step_end = self._marked()
        self._bar.update()

    def restart(self) -> None:
        """Leaves out what passed since the last lap: validation and checkpoints are not training speed."""
        self._images, self._waited_s, self._start_s = 0, 0.0, time.perf_counter()
        self._step_end = None  # not the last lap's: the host fetched and wrote since then
        self._gaps = []

    def lap(self, step: int, window: Metrics) -> tuple[float, float]:
        """Shows the means since the last lap and starts the next; returns images a second and the waiting share."""
        seconds = max(1e-9, time.perf_counter() - self._start_s)
        idle_ms = sum(end.elapsed_time(begin) for end, begin in self._gaps)  # all reached: the metrics were fetched
        images_per_s, wait = self._images / seconds, (self._waited_s + idle_ms / 1000) / seconds
        self._all_images += self._images
        self._all_s += seconds
        self.restart()
        text = (
            f"loss {window.loss:.3f}, accuracy {window.accuracy:.1%} (chance {self._chance:.1%}), "
            f"{images_per_s:,.0f} images/s, waiting for data {wait:.0%}"
        )
        if self._is_bar:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            self.say(f"step {step}/{self._train.steps}: {text}, {self._left(step)} left")
        return images_per_s, wait

    def overall(self) -> float:
        """Returns images a second over all laps, 0 before the first."""
        return self._all_images / self._all_s if self._all_s else 0.0

    def check_loss(self, step: int, loss: float) -> float:
        """Judges the loss of one window of steps; returns that of the first.

        Raises:
            DivergedError: the loss is not finite, or ten times where it began.
        """
        if math.isnan(self.first_loss):
            self.first_loss = loss
        if math.isfinite(loss) and loss <= _DIVERGED * max(self.first_loss, -math.log(self._chance)):
            return self.first_loss
        raise DivergedError(
            f"the loss is {loss:.3g} at step {step}, it began at {self.first_loss:.3g}: training has diverged; lower "
            f"the learning rate ({self._train.learning_rate:g}) or lengthen the warm-up ({self._train.warmup_steps})"
        )

    def chance_warning(self, step: int, accuracy: float) -> str:
        """Returns a warning, once, when a quarter of the steps is done and accuracy is within two points of chance."""
        early = step < _CHANCE_AFTER * self._train.steps
        if self._warned or early or accuracy > self._chance + _CHANCE_MARGIN:
            return ""
        self._warned = True
        return (
            f"warning: accuracy is {accuracy:.1%} after {step} of {self._train.steps} steps and chance is "
            f"{self._chance:.1%}: nothing is learned yet; try another learning rate, or more steps"
        )

    def say(self, message: str) -> None:
        """Shows a line beside the bar; a terminal that is gone takes none, and the run goes on to its checkpoint."""
        with contextlib.suppress(OSError):
            if self._is_bar:
                tqdm.write(message, file=sys.stderr)
            elif self._visible:
                sys.stderr.write(f"{self._name}: {message}\n")

    def close(self) -> None:
        self._bar.close()

    def _marked(self) -> Event:
        assert self._make_event is not None
        event = self._make_event()
        event.record()
        return event

    def _left(self, step: int) -> str:
        """The time the remaining steps take at the pace so far, as 01:23 or 1:02:03."""
        pace_s = (time.perf_counter() - self._began_s) / max(1, step - self._first_step)
        return tqdm.format_interval(pace_s * (self._train.steps - step))
