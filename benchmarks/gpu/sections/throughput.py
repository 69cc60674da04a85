"""Images a second from shards into patches on the device; at 32 px beside what the device could do.

The ceiling at 32 px is a loader that holds all pixels on the device and does nothing but index, flip and cut
(airbench's way); at 224 px it is the decoder alone, a section of its own: what is promised is measured first.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.data import endless, loader, task
from benchmarks.gpu.measure import attempt, emit, rate
from benchmarks.gpu.sections.patch_stage import gather_torch
from benchmarks.gpu.setting import Setting
from benchmarks.work.material import load

SMALL, LARGE = "throughput: 32 px", "throughput: 224 px"


def run(setting: Setting) -> None:
    """The rows of one image size."""
    if setting.options["size"] == 224:
        for kind in ("jpeg256", "full"):
            attempt(LARGE, f"{kind}: default", partial(ours, LARGE, f"{kind}: default", kind, setting))
        others: dict[str, dict[str, Any]] = {
            "kernels, decoded by the CPU": {"backend": "gpu", "decode": "cpu"},
            "DALI's operators": {"backend": "dali-operators"},
        }
        for way, options in others.items():
            name = f"jpeg256: {way}"
            if setting.dry:  # on a CPU the interpreter, or what is measured elsewhere
                emit(LARGE, name, [], "images/s", note="needs a GPU")
            else:
                attempt(LARGE, name, partial(ours, LARGE, name, "jpeg256", setting, **options))
        for kind in ("jpeg256", "full"):
            name = f"{kind}: CPU decode, copied"
            attempt(LARGE, name, partial(ours, LARGE, name, kind, setting, device="cpu"))
        return
    attempt(SMALL, "shards", partial(ours, SMALL, "shards", "raw32", setting))
    if not setting.dry:
        name = "shards, DALI's operators"
        attempt(SMALL, name, partial(ours, SMALL, name, "raw32", setting, backend="dali-operators"))
    attempt(SMALL, "store", partial(ours, SMALL, "store", "raw32", setting, resident=True))
    name = "ceiling: resident, index + flip + cut"
    attempt(SMALL, name, lambda: measure(SMALL, name, "raw32", resident(setting), setting))


def measure(case: str, system: str, kind: str, batches: Iterator[Any], setting: Setting) -> None:
    """Images a second of an iterator of things with a length."""
    emit(case, system, rate(lambda: len(next(batches)), setting), "images/s", note=setting.device, stored=kind)


def ours(case: str, system: str, kind: str, setting: Setting, **options: Any) -> None:
    """This project's loader, patches arriving on the setting's device whatever decodes them."""
    with loader(kind, setting, **options) as stream:
        moved = (batch.to(setting.device, non_blocking=True) for batch in endless(stream))
        measure(case, system, kind, moved, setting)


def resident(setting: Setting) -> Iterator[torch.Tensor]:
    """All pixels on the device; a batch is one index, one flip, one cut."""
    one = task("raw32", setting)
    packed = load(one.source)
    pixels = torch.from_numpy(np.array(packed.data)).view(len(packed), 32, 32, 3).to(setting.device)
    batch = one.batch_size
    while True:
        order = torch.randperm(len(pixels), device=setting.device)
        for start in range(0, len(pixels) - batch + 1, batch):
            images = pixels[order[start : start + batch]]
            mirrored = torch.rand(batch, 1, 1, 1, device=setting.device) < 0.5
            images = torch.where(mirrored, images.flip(2), images)
            cells = torch.rand(batch, one.cells, device=setting.device).argsort(dim=1)
            yield gather_torch(images, cells, one.patch_size)
