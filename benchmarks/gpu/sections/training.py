"""The training step: images/s, share of the measured bf16 matrix ceiling, peak memory, and what the loader costs it.

At most one `torch.compile` a section, last: everything else is known before it. The stall is measured with batches of
the size that is trained with, by `timeline.py`, beside the same loop on one cached batch.
"""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.data import endless, loader
from benchmarks.gpu.measure import attempt, emit, seconds_a_call
from benchmarks.gpu.sections.roofline import cost, step_of
from benchmarks.gpu.sections.timeline import idle
from benchmarks.gpu.sections.workload import OPTIONS, STORED, Step, prepared
from benchmarks.gpu.setting import Setting

CASE = "training"
# Multiply-adds of a forward pass an image, in 10^9; a training step is three forward passes. Of P + A at 224: 49
# patches are the whole image, so stages 1-3 of a ResNet-50 (3.3) and the pooling (0.6); at 32 px P runs at stride 1.
FORWARD_GMACS = {"selfie-224": 3.9, "finetune-224": 4.1}
STEPS = 20  # of a stall: a loader's first batches may be ready already


class Trial(NamedTuple):
    """One line of the table: an option at a batch size; `stall`: with the loader's batches too."""

    option: str
    batch: int
    dry_batch: int
    stall: bool = False

    @property
    def name(self) -> str:
        return f"{self.option}, batch {self.batch:,}"


TRIALS = {
    "selfie-224": (
        Trial("bf16", 256, 2),
        Trial("bf16", 1024, 2, stall=True),
        Trial("bf16 + compile", 1024, 2, stall=True),
    ),
    "selfie-32": (Trial("bf16", 512, 8, stall=True), Trial("bf16 + compile", 512, 8, stall=True)),
    "finetune-224": (Trial("bf16", 256, 2), Trial("bf16 + compile", 256, 2)),
    "float32": (Trial("float32", 256, 2), Trial("float32, channels-last", 256, 2)),
}


def run(setting: Setting) -> None:
    """The ceiling, then the trials of one workload, each with its records as they come."""
    work = setting.options["work"]
    ceiling = [0.0]
    attempt(CASE, "bf16 matrix ceiling", lambda: ceiling.append(matrix_ceiling(setting)))
    for trial in TRIALS[setting.options.get("trials", work)]:
        if setting.dry and "compile" in trial.option:
            continue  # minutes of C++ compiling for a number that means nothing
        attempt(f"{CASE}: {work}", trial.name, partial(measure, work, trial, ceiling[-1], setting))


def matrix_ceiling(setting: Setting) -> float:
    """Multiply-adds a second, in 10^9, of a large bf16 matrix product."""
    size = setting.size(8192, 256)
    left = torch.randn(size, size, device=setting.device, dtype=torch.bfloat16)
    seconds = seconds_a_call(partial(torch.matmul, left, left), setting)
    gmacs = [size**3 / one / 1e9 for one in seconds]
    emit(CASE, "ceiling: bf16 matrix product", gmacs, "GMAC/s", note=setting.device)
    return sorted(gmacs)[len(gmacs) // 2]


def measure(work: str, trial: Trial, ceiling: float, setting: Setting) -> None:
    """One trial: rate on a cached batch, peak memory, share of the ceiling; then the stall with the same step."""
    case, on_gpu = f"{CASE}: {work}", setting.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    batch, step = prepared(work, trial.option, setting.size(trial.batch, trial.dry_batch), setting)
    seconds = seconds_a_call(partial(step, batch), setting, calls=5, runs=3)
    rates = [len(batch) / one for one in seconds]
    settings = {**OPTIONS[trial.option], "batch": len(batch)}
    emit(case, trial.name, rates, "images/s", settings=settings, note=setting.device)
    if on_gpu:
        emit(case, f"{trial.name}: peak memory", [torch.cuda.max_memory_allocated() / 2**20], "MiB")
    if work in FORWARD_GMACS and ceiling and not setting.dry:
        share = [3 * FORWARD_GMACS[work] * one / ceiling for one in rates]
        emit(case, f"{trial.name}: of the bf16 ceiling", share, "share")
    if trial.option.startswith("bf16"):
        attempt(case, f"{trial.name}: roofline", partial(roofline, work, trial, len(batch), rates, setting))
    if trial.stall:
        attempt(case, f"{trial.name}: stall", partial(stall, work, trial.name, batch, step, setting))


def roofline(work: str, trial: Trial, count: int, rates: list[float], setting: Setting) -> None:
    """What an H100 could do at most by its data sheet, and how much of that was measured."""
    found = cost(step_of(work, count, setting))
    most = count / (found.seconds_compiled if "compile" in trial.option else found.seconds_eager)
    case, note = f"{CASE}: {work}", "derived, of an H100; decision 075 expects 0.35 to 0.7 of it"
    emit(case, f"{trial.name}: roofline", [most], "images/s", note=note)
    emit(case, f"{trial.name}: of the roofline", [rate / most for rate in rates], "share", note=setting.device)


def stall(work: str, name: str, batch: Any, step: Step, setting: Setting) -> None:
    """The share of a step that the device waits for the loader, and the loop's rate beside a cached batch's."""
    steps = setting.size(STEPS, 3)
    once: Callable[..., Any] = partial(idle, step, device=setting.device, steps=steps)
    cached = once(repeat(batch))
    with loader(STORED[work], setting, global_batch_size=len(batch)) as stream:
        real = once(one.to(setting.device, non_blocking=True) for one in endless(stream))
    case = f"{CASE}: {work}"
    by = "by CUDA events" if setting.device == "cuda" else "by the clock"
    emit(case, f"{name}: stall", [real.share], "share", note=by, stored=STORED[work])
    emit(case, f"{name}: stall of a cached batch", [cached.share], "share", note=by)
    ratio = real.images_per_s / cached.images_per_s
    emit(case, f"{name}: loader / cached batch", [ratio], "ratio", stored=STORED[work])
