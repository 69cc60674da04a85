"""One system as a process: reads commands and writes answers, a JSON object a line.

    <- task                                      the first line, from `Task.to_json`
    -> {"ready": {...}} or {"skip": reason}
    <- {"do": "measure", "seconds": s, "settle": s}   -> {"images": n, "seconds": t}
    <- {"do": "check"}                                -> the values of `benchmarks.work.check.observe`
    <- {"do": "stop"}

Start it as `python -m benchmarks.harness.serve MODULE`. Standard output is kept for the answers: whatever a library
prints goes to standard error.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from benchmarks.harness.record import versions
from benchmarks.work.check import observe
from benchmarks.work.task import Task

_LEAST_BATCHES = 3
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    _end_with_the_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    task = Task.from_json(sys.stdin.readline())
    try:
        system = importlib.import_module(f"benchmarks.{sys.argv[1]}")
        started = time.perf_counter()
        system.convert(task)
        converted = time.perf_counter()
        batches = system.batches(task)
        first = [next(batches)]  # let go of once it is checked: memory that is held is no memory to be used again
    except ImportError as error:
        _answer(answers, {"skip": f"cannot be imported: {error}".splitlines()[0]})
        return
    ready = {
        "settings": system.SETTINGS,
        "versions": versions(system.PACKAGES),
        "convert_s": round(converted - started, 3),
        "first_batch_s": round(time.perf_counter() - converted, 3),
    }
    _answer(answers, {"ready": ready})
    _obey(answers, batches, first, task)
    sys.stderr.flush()
    os._exit(0)  # workers of several peers do not end with their owner when asked politely


def _end_with_the_parent() -> None:
    """A parent that is killed cannot end its children, and they may be stopped: Linux does it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _obey(answers: TextIO, batches: Iterator[Any], first: list[Any], task: Task) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            return
        if command["do"] == "check":
            _answer(answers, observe(first.pop(), task))
        else:
            _answer(answers, _measure(batches, command["seconds"], command["settle"]))


def _measure(batches: Iterator[Any], seconds: float, settle: float) -> dict[str, float]:
    """Images a second over at least `seconds`, after what was prefetched while nobody asked is used up."""
    _consume(batches, settle)
    images, elapsed = _consume(batches, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": images, "seconds": elapsed, "peak_mib": round(peak)}


def _consume(batches: Iterator[Any], seconds: float) -> tuple[int, float]:
    images = number = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or number < _LEAST_BATCHES:
        images += len(next(batches))
        number += 1
    return images, elapsed


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
