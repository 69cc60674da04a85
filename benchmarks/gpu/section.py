"""A section of the GPU run: a function from `Setting` to records, in a process of its own with a time budget.

A process, because what is asked includes whether NVIDIA's decoders crash; a crash, a hang or an error of one section is
a line in the results and the others go on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.record import ROOT, Record, record, versions

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a section is told.

    Attributes:
        device: `cuda` or, in a dry run, `cpu`.
        dry: tiny sizes; the numbers mean nothing.
        seconds: its time budget; it should end by itself before that.
        threads: CPU cores for decoding.
        batches: how many batches of the decoder stress.
        scratch: prepared data, never recorded.
        images: folder of real archives, or None.
    """

    device: str
    dry: bool
    seconds: float
    threads: int
    batches: int
    scratch: str
    images: str | None

    def size(self, full: int, tiny: int) -> int:
        """`full` on a GPU, `tiny` in a dry run."""
        return tiny if self.dry else full

    @property
    def window_s(self) -> float:
        """How long one measured run takes."""
        return 0.05 if self.dry else 1.0


def isolated(name: str, setting: Setting) -> list[Record]:
    """Runs section `name` in a process; always returns at least one record."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.section", name, json.dumps(asdict(setting))]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=setting.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        # what the section printed before its time was up is kept
        text = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return [*parse(text), failed(name, f"over its budget of {setting.seconds:.0f} s")]
    found = parse(done.stdout)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "nothing"
        found.append(failed(name, f"ended with code {done.returncode}: {said}"))
    took = time.perf_counter() - start
    return [*found, record(QUESTION, "time", name, [took], unit="s", cache="")]


def parse(text: str) -> list[Record]:
    """The records among the lines that a section printed."""
    lines = [line for line in text.splitlines() if line.startswith('{"')]
    return [Record(**{**one, "runs": tuple(one["runs"])}) for one in map(json.loads, lines)]


def failed(name: str, reason: str) -> Record:
    """A section that did not finish."""
    return record(QUESTION, name, "section failed", [], unit="", note=reason)


def emit(case: str, system: str, runs: Sequence[float], unit: str, **fields: Any) -> None:
    """Prints one record; the parent reads it even when the section crashes later."""
    one = record(QUESTION, case, system, runs, unit=unit, versions=versions(PACKAGES), **fields)
    print(json.dumps(asdict(one)), flush=True)


def verdict(case: str, claim: str, holds: bool, note: str = "") -> None:
    """A yes or no, as 1 or 0."""
    emit(case, claim, [float(holds)], "holds", note=note)


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
        return [_events(call, calls) for _ in range(runs)]
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(2):
            call()
        found.append((time.perf_counter() - start) / 2)
    return found


def _events(call: Callable[[], object], calls: int) -> float:
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / calls


def attempt(case: str, system: str, work: Callable[[], None]) -> None:
    """Runs one part of a section; what a library may raise becomes a record and the next part goes on."""
    try:
        work()
    except (
        RuntimeError,
        ValueError,
        TypeError,
        ImportError,
        OSError,
        AttributeError,
        subprocess.SubprocessError,
    ) as error:
        emit(case, system, [], "", note=f"{type(error).__name__}: {error}".splitlines()[0][:300])


def main() -> None:
    name, told = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, str(Path.cwd()))
    import_module(f"benchmarks.gpu.{name}").run(Setting(**told))


if __name__ == "__main__":
    main()
