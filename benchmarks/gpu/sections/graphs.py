"""Do CUDA graphs live with tensors that DALI frees?

`torch.compile(mode="reduce-overhead")` records the step as a CUDA graph. Memory of the loader's tensors is freed by a
thread of DALI's, which waits for the device; CUDA forbids that while a graph is recorded, so that the recording may
fail, or the process end.
"""

import math
from itertools import repeat
from typing import Any

from benchmarks.gpu.data import endless, loader
from benchmarks.gpu.measure import attempt, emit, verdict
from benchmarks.gpu.sections.timeline import idle
from benchmarks.gpu.sections.workload import STORED, prepared
from benchmarks.gpu.setting import Setting

CASE = "training: selfie-224"
WORK, BATCH, STEPS = "selfie-224", 256, 30


def run(setting: Setting) -> None:
    """The loader's batches first, also while the graph is recorded; then a cached batch."""
    option = "bf16" if setting.dry else "bf16 + compile + CUDA graphs"
    attempt(CASE, f"{option}, batch {BATCH}", lambda: live(option, setting))


def live(option: str, setting: Setting) -> None:
    """Steps on the loader's batches: finite losses, and the rate beside a cached batch's."""
    batch, step = prepared(WORK, option, setting.size(BATCH, 2), setting)
    steps = setting.size(STEPS, 3)
    losses: list[Any] = []

    def kept(one: Any) -> None:
        losses.append(step(one).clone())  # a graph's outputs are overwritten by the next step

    with loader(STORED[WORK], setting, global_batch_size=len(batch)) as stream:
        moved = (one.to(setting.device, non_blocking=True) for one in endless(stream))
        real = idle(kept, moved, setting.device, steps=steps)
    name = f"{option}, batch {BATCH}"
    finite = all(math.isfinite(float(one)) for one in losses)
    verdict(CASE, f"{name}: {len(losses)} steps with the loader's tensors", finite, "every loss is finite")
    cached = idle(step, repeat(batch), setting.device, steps=steps)
    emit(CASE, name, [cached.images_per_s], "images/s", note="cached batch")
    emit(CASE, f"{name}: stall", [real.share], "share", stored=STORED[WORK])
    ratio = real.images_per_s / cached.images_per_s
    emit(CASE, f"{name}: loader / cached batch", [ratio], "ratio", stored=STORED[WORK])
