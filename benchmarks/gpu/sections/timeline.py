"""How long a device stands idle between one training step and the next.

On a GPU by CUDA events: one at the end of step k, one at the start of step k + 1; what lies between is the loader's
share of a step, its own work on the device included. What the host waits says nothing there: it waits for a step to end
as well as for a batch. On a CPU, where nothing is queued, by the clock.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch

Step = Callable[[Any], object]


class Idle(NamedTuple):
    """Of one loop: images a second, and the share of the time that the device had no step to work on."""

    images_per_s: float
    share: float


def idle(step: Step, batches: Iterator[Any], device: str, *, steps: int, warm_up: int = 3) -> Idle:
    """Runs `steps` steps on `batches` without waiting in between."""
    for _ in range(warm_up):
        step(next(batches))
    if device == "cuda":
        torch.cuda.synchronize()
    marks, images = [], 0
    for _ in range(steps):
        batch = next(batches)
        begin = _mark(device)
        step(batch)
        marks.append((begin, _mark(device)))
        images += len(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return summed(marks, images)


def summed(marks: Sequence[tuple[Any, Any]], images: int) -> Idle:
    """From the (begin, end) of every step; begin and end are CUDA events or seconds of the clock."""
    gaps = sum(_between(before[1], after[0]) for before, after in pairwise(marks))
    # from the end of the first step, so that there are as many gaps as steps
    whole = _between(marks[0][1], marks[-1][1])
    return Idle(images / len(marks) * (len(marks) - 1) / whole, gaps / whole)


def _mark(device: str) -> Any:
    if device != "cuda":
        return time.perf_counter()
    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(first: Any, second: Any) -> float:
    """Seconds."""
    if isinstance(first, float):
        return float(second) - first
    return float(first.elapsed_time(second)) / 1000
