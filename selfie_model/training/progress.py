"""What a person sees of a running training: a bar on a terminal, a line now and then in a log file.

pretrain  40% 160/400 [01:12<01:48] loss 1.352, accuracy 31.2 % (chance 25.0 %), 540 images/s, waiting for data 2 %
"""

import sys
import time
from typing import TextIO

from tqdm import tqdm


class Progress:
    """Shows the course of a run; silent on all ranks but the first."""

    def __init__(self, name: str, *, first: int, total: int, chance: float, visible: bool = True) -> None:
        self._chance = chance
        self._total = total
        self._name = name
        self._first = first
        self._start_s = time.monotonic()
        self._stream: TextIO = sys.stderr
        self._visible = visible
        bar_wanted = visible and self._stream.isatty()
        self._bar = tqdm(total=total, initial=first, desc=name, unit="step", disable=not bar_wanted, dynamic_ncols=True)
        self._is_bar = bar_wanted

    def step(self) -> None:
        """One optimiser step is done."""
        self._bar.update()

    def report(self, step: int, *, loss: float, accuracy: float, images_per_s: float, wait: float) -> None:
        """Shows the means since the last report; `wait` is the share of the time spent waiting for data."""
        text = (
            f"loss {loss:.3f}, accuracy {accuracy:.1%} (chance {self._chance:.1%}), "
            f"{images_per_s:,.0f} images/s, waiting for data {wait:.0%}"
        )
        if self._is_bar:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            self.say(f"step {step}/{self._total}: {text}, {self._left(step)} left")

    def say(self, message: str) -> None:
        """Shows a line beside the bar."""
        if self._is_bar:
            tqdm.write(message, file=self._stream)
        elif self._visible:
            self._stream.write(f"{self._name}: {message}\n")
            self._stream.flush()

    def close(self) -> None:
        self._bar.close()

    def _left(self, step: int) -> str:
        """The time the remaining steps take at the pace so far, as 01:23 or 1:02:03."""
        done = max(1, step - self._first)
        return tqdm.format_interval((time.monotonic() - self._start_s) / done * (self._total - step))
