"""Images a second into patches on the device, beside what the device could do: each with its ceiling in the same run.

Ceilings: at 32 px a loader that holds all pixels on the device and does nothing but index, flip and cut (airbench's
way); at 224 px NVIDIA's decoder alone, on the device and on the CPU, at several shares of the hardware decoder.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.data import endless, loader, task
from benchmarks.gpu.patch_stage import gather_torch
from benchmarks.gpu.section import Setting, attempt, emit, rate, synchronise
from benchmarks.work.material import load

SMALL, LARGE = "throughput: 32 px", "throughput: 224 px"
LOADS = (0.0, 0.3, 0.65, 0.9)


def run(setting: Setting) -> None:
    """All rows; the cheap ones first."""
    attempt(
        SMALL,
        "resident ceiling",
        lambda: measure(SMALL, "ceiling: resident, index + flip + cut", resident(setting), setting),
    )
    attempt(SMALL, "store", partial(ours, SMALL, "store", "raw32", setting, resident=True))
    attempt(SMALL, "shards", partial(ours, SMALL, "shards", "raw32", setting))
    for kind in ("jpeg256", "full"):
        for device in ("mixed", "cpu"):
            loads = LOADS if device == "mixed" and setting.device == "cuda" else (0.0,)
            for share in loads:
                name = f"ceiling: {kind}, decode alone, {device}" + (f", hw load {share}" if device == "mixed" else "")
                attempt(LARGE, name, partial(decode_alone, name, kind, device, share, setting))
        attempt(LARGE, f"{kind}: default", partial(ours, LARGE, f"{kind}: default", kind, setting))
        attempt(
            LARGE,
            f"{kind}: CPU decode",
            partial(ours, LARGE, f"{kind}: CPU decode, copied", kind, setting, device="cpu"),
        )


def measure(case: str, system: str, batches: Iterator[Any], setting: Setting) -> None:
    """Images a second of an iterator of things with a length."""
    emit(case, system, rate(lambda: len(next(batches)), setting), "images/s", note=setting.device)


def ours(case: str, system: str, kind: str, setting: Setting, **options: Any) -> None:
    """This project's loader, patches arriving on the setting's device whatever decodes them."""
    with loader(kind, setting, **options) as stream:
        moved = (batch.to(setting.device, non_blocking=True) for batch in endless(stream))
        measure(case, system, moved, setting)


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


def decode_alone(name: str, kind: str, device: str, share: float, setting: Setting) -> None:
    """DALI's decoder and nothing else, fed from memory."""
    from nvidia.dali import fn, pipeline_def

    one = task(kind, setting)
    packed = load(one.source)
    rng = np.random.default_rng(0)
    on_gpu = setting.device == "cuda"
    if device == "mixed" and not on_gpu:
        emit(LARGE, name, [], "images/s", note="needs a GPU")
        return

    def feed() -> list[np.ndarray[Any, Any]]:
        return [np.array(packed.payload(index)) for index in rng.integers(0, len(packed), one.batch_size)]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=one.batch_size,
        num_threads=setting.threads,
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=2,
    )
    def decode() -> Any:
        extra: dict[str, Any] = {"hw_decoder_load": share} if device == "mixed" else {}
        return fn.decoders.image(fn.external_source(feed, batch=True), device=device, **extra)

    pipeline = decode()
    pipeline.build()

    def step() -> int:
        pipeline.run()
        return one.batch_size

    emit(LARGE, name, rate(step, setting), "images/s", note=setting.device)
    synchronise(setting.device)
