"""How fast a training runs, and how much of that is waiting for data. Host time; nothing here waits for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds and images since the last lap.

    Attributes:
        images: trained on since then; the loop adds to it.
    """

    def __init__(self) -> None:
        self.images = 0
        self._all_images = 0
        self._all_s = 0.0
        self._waited_s = 0.0
        self._start_s = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        start_s = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - start_s

    def lap(self) -> tuple[float, float]:
        """Returns images a second and the waiting share since the last lap, and starts the next."""
        seconds = max(1e-9, time.perf_counter() - self._start_s)
        rate, wait = self.images / seconds, self._waited_s / seconds
        self._all_images += self.images
        self._all_s += seconds
        self.restart()
        return rate, wait

    def restart(self) -> None:
        """Leaves out what passed since the last lap: validation and checkpoints are not training speed."""
        self.images, self._waited_s, self._start_s = 0, 0.0, time.perf_counter()

    def overall(self) -> float:
        """Returns images a second over all laps, 0 before the first."""
        return self._all_images / self._all_s if self._all_s else 0.0
