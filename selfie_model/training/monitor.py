"""What watches a training: how fast it runs, what a person sees of it, and the two ways it fails without crashing.

A bar on a terminal, a line now and then in a log file:
pretrain  40% 160/400 [01:12<01:48] loss 1.352, accuracy 31.2 % (chance 25.0 %), 540 images/s, waiting for data 2 %

All of it is host time and numbers that were fetched anyway; nothing here waits for the device.
"""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from selfie_data.errors import DivergedError
from selfie_model.config import TrainConfig
from selfie_model.training.evaluate import Metrics

_DIVERGED = 10.0  # times the larger of the first loss and chance's; the least that no learning run has come near
_CHANCE_MARGIN = 0.02  # two points
_CHANCE_AFTER = 0.25  # of the steps


class Monitor:
    """Sees every step of one process's training.

    Args:
        name: `pretrain` or `finetune`, before every line.
        train: what is being trained.
        chance: accuracy of guessing.
        first_step: optimiser steps done before this process began.
        first_loss: of the run's first window of steps, NaN if that is still to come.
        visible: whether anything is shown.
    """

    def __init__(
        self, name: str, train: TrainConfig, *, chance: float, first_step: int, first_loss: float, visible: bool
    ) -> None:
        self.first_loss = first_loss
        self._name, self._train, self._chance, self._first_step = name, train, chance, first_step
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
        """Counts the time inside as waiting for data."""
        start_s = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - start_s

    def step(self) -> None:
        """One optimiser step is done."""
        self._images += self._train.batch_size
        self._bar.update()

    def restart(self) -> None:
        """Leaves out what passed since the last lap: validation and checkpoints are not training speed."""
        self._images, self._waited_s, self._start_s = 0, 0.0, time.perf_counter()

    def lap(self, step: int, window: Metrics) -> tuple[float, float]:
        """Shows the means since the last lap and starts the next; returns images a second and the waiting share."""
        seconds = max(1e-9, time.perf_counter() - self._start_s)
        images_per_s, wait = self._images / seconds, self._waited_s / seconds
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
        """Shows a line beside the bar."""
        if self._is_bar:
            tqdm.write(message, file=sys.stderr)
        elif self._visible:
            sys.stderr.write(f"{self._name}: {message}\n")

    def close(self) -> None:
        self._bar.close()

    def _left(self, step: int) -> str:
        """The time the remaining steps take at the pace so far, as 01:23 or 1:02:03."""
        pace_s = (time.perf_counter() - self._began_s) / max(1, step - self._first_step)
        return tqdm.format_interval(pace_s * (self._train.steps - step))
