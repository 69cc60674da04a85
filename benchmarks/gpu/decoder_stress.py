"""Thousands of batches through nvJPEG, hardware decoder off and on: same checksums at receipt, after use, every pass?

Known hazards (see pytorch/vision issue 9606 and nvImageCodec issue 55): the hardware path may write after the stream
says it is done, and region-of-interest decoding may crash. The batches are the same in every pass (evaluation, no
augmentation), so a checksum that changes between passes, or between receipt and after use, is a fault.
"""

import time
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.gpu.data import task
from benchmarks.gpu.section import Setting, attempt, emit, verdict
from benchmarks.work.material import load

CASE = "correctness: decoder stress"
LOADS = (0.0, 0.65)
BATCH = 16
KINDS = 24  # different batches, each seen again and again


def run(setting: Setting) -> None:
    """Hardware decoder off, then on, then region-of-interest decode."""
    share = (setting.seconds - 25) / len(LOADS)
    for load_share in LOADS[: 1 if setting.dry else None]:
        attempt(CASE, f"hw_decoder_load={load_share}", lambda s=load_share: stress(s, share, setting))  # type: ignore[misc]
    attempt(CASE, "region of interest", lambda: region_of_interest(setting))


def stress(hw_decoder_load: float, budget_s: float, setting: Setting) -> None:
    """Decodes, checks at receipt and after use, and watches the device's memory."""
    pipeline = graph(setting, hw_decoder_load)
    label = f"hw_decoder_load={hw_decoder_load}"
    goal = setting.size(setting.batches, 3 * KINDS)
    known: dict[int, int] = {}
    changed = late = done = 0
    free: list[float] = []
    deadline = time.perf_counter() + budget_s
    weight = torch.ones(64, 64, device=setting.device)
    while done < goal and time.perf_counter() < deadline:
        (images,) = pipeline.run()
        tensor = from_dlpack(images.as_tensor())
        receipt = checksum(tensor)
        for _ in range(4):
            weight = (weight @ weight).clamp(max=1)  # other work on the stream, as a training step would be
        after = checksum(tensor)
        late += receipt != after
        changed += known.setdefault(done % KINDS, receipt) != receipt
        done += 1
        if done in (max(1, goal // 10), goal):
            free.append(_used_mib(setting.device))
    emit(
        CASE,
        f"{label}: batches",
        [float(done)],
        "batches",
        note="" if done == goal else f"stopped by time, goal {goal}",
    )
    verdict(CASE, f"{label}: same in every pass", changed == 0, note=f"{changed} of {done} differ")
    verdict(CASE, f"{label}: unchanged after use", late == 0, note=f"{late} of {done} differ")
    if len(free) == 2:
        verdict(CASE, f"{label}: memory plateau", free[1] - free[0] < 64, note=f"{free[0]:.0f} -> {free[1]:.0f} MiB")


def checksum(tensor: torch.Tensor) -> int:
    """Position-dependent, exact: the sum of bytes times a repeating ramp."""
    flat = tensor.flatten()
    ramp = torch.arange(1, 252, device=tensor.device)
    usable = flat[: flat.numel() // 251 * 251].view(-1, 251)
    return int((usable.sum(dim=0, dtype=torch.int64) * ramp).sum())


def graph(setting: Setting, hw_decoder_load: float, *, region: bool = False, crop: bool = False) -> Any:
    """A DALI pipeline that decodes the same batches again and again to 224 x 224."""
    from nvidia.dali import fn, pipeline_def, types

    packed = load(task("jpeg256", setting).source)
    on_gpu = setting.device == "cuda"
    turn = 0

    def feed() -> list[np.ndarray[Any, Any]]:
        nonlocal turn
        start = turn % KINDS * BATCH
        turn += 1
        return [np.array(packed.payload((start + index) % len(packed))) for index in range(BATCH)]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=BATCH, num_threads=setting.threads, device_id=0 if on_gpu else None, prefetch_queue_depth=2
    )
    def decode() -> Any:
        stored = fn.external_source(feed, batch=True)
        device = "mixed" if on_gpu else "cpu"
        extra: dict[str, Any] = {"hw_decoder_load": hw_decoder_load} if on_gpu else {}
        anchor, shape = np.array([16, 16], np.int32), np.array([224, 224], np.int32)
        window: dict[str, Any] = {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
        if region:
            return fn.decoders.image_slice(stored, anchor, shape, device=device, **window, **extra)
        image = fn.decoders.image(stored, device=device, **extra)
        if crop:
            return fn.slice(image, anchor, shape, **window)
        return fn.resize(image, size=[224, 224], interp_type=types.INTERP_LINEAR, antialias=True)

    pipeline = decode()
    pipeline.build()
    return pipeline


def region_of_interest(setting: Setting) -> None:
    """Decoding a window only against decoding all and cutting: equal or not, and does it live?"""
    window, whole = graph(setting, 0.0, region=True), graph(setting, 0.0, crop=True)
    differences = []
    for _ in range(setting.size(2 * KINDS, 2)):
        (part,), (full,) = window.run(), whole.run()
        left = from_dlpack(part.as_tensor()).int()
        right = from_dlpack(full.as_tensor()).int()
        differences.append(int((left - right).abs().max()))
    verdict(
        CASE, "region of interest: same pixels", max(differences) == 0, note=f"largest difference {max(differences)}"
    )


def _used_mib(device: str) -> float:
    if device != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20
