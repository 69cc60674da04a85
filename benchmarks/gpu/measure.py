"""What sections measure with: records to standard output as they come, rates, times of calls by CUDA events."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import torch

from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import record, versions

QUESTION = "gpu"
PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "numba",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "nvidia-nvimgcodec-cu13",
    "nvidia-nvimgcodec-cu12",
)


def emit(
    case: str,
    system: str,
    runs: Sequence[float],
    unit: str,
    *,
    stored: str = "",
    settings: Mapping[str, Any] | None = None,
    note: str = "",
) -> None:
    """Prints one record; the parent reads it even when the section crashes later.

    `stored` names the kind of stored images that the number depends on, if it does.
    """
    chosen = {**(settings or {}), **({"stored": stored} if stored else {})}
    found = versions(PACKAGES)
    one = record(QUESTION, case, system, runs, unit=unit, versions=found, settings=chosen, note=note)
    print(json.dumps(asdict(replace(one, host={**one.host, "gpu": gpu()}))), flush=True)


def verdict(case: str, claim: str, holds: bool, note: str = "", *, stored: str = "") -> None:
    """A yes or no, as 1 or 0."""
    emit(case, claim, [float(holds)], "holds", note=note, stored=stored)


def attempt(case: str, system: str, work: Callable[[], object]) -> bool:
    """Runs one part of a section and tells whether it ended well.

    Whatever a library raises becomes a record and the next part goes on: a card is at hand for minutes only.
    """
    try:
        work()
    except Exception as error:
        emit(case, system, [], "", note=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        return False
    return True


@cache
def gpu() -> str:
    """The GPU in words; `none` where there is none."""
    if not torch.cuda.is_available():
        return "none"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def synchronise(device: str) -> None:
    """Waits for all queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def rate(step: Callable[[], int], setting: Setting, *, warm_up: int = 3, runs: int = 3) -> list[float]:
    """Things a second over `runs` windows; `step` does some and returns how many."""
    for _ in range(warm_up):
        step()
    found = []
    for _ in range(runs):
        synchronise(setting.device)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < setting.window_s or not done:
            done += step()
        synchronise(setting.device)
        found.append(done / (time.perf_counter() - start))
    return found


def seconds_a_call(call: Callable[[], object], setting: Setting, *, calls: int = 20, runs: int = 5) -> list[float]:
    """Seconds a call: CUDA events around `calls` of them on a GPU, the clock on a CPU."""
    call()
    call()
    if setting.device == "cuda":
        return [_by_events(call, calls) for _ in range(runs)]
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def _by_events(call: Callable[[], object], calls: int) -> float:
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / calls
