"""Decoding a window only against decoding all and cutting: the same pixels, and does it live (nvImageCodec #55)?"""

from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.gpu.data import task
from benchmarks.gpu.measure import attempt, verdict
from benchmarks.gpu.setting import Setting
from benchmarks.work.material import load

CASE = "correctness: region decode"
BATCH = 64


def run(setting: Setting) -> None:
    """A window of 224 x 224 at (16, 16) of every image."""
    attempt(CASE, "region of interest", lambda: compare(setting))


def compare(setting: Setting) -> None:
    """The largest difference over all batches."""
    part, whole = graph(setting, region=True), graph(setting, region=False)
    differences = [_largest(part, whole) for _ in range(setting.size(24, 2))]
    note = f"largest difference {max(differences)}"
    verdict(CASE, "region of interest: same pixels", max(differences) == 0, note, stored="jpeg256")


def _largest(part: Any, whole: Any) -> int:
    left, right = (from_dlpack(one.run()[0].as_tensor()).to(torch.int16) for one in (part, whole))
    return int((left - right).abs().max())


def graph(setting: Setting, *, region: bool) -> Any:
    """A DALI pipeline that gives the window of one batch after another."""
    from nvidia.dali import fn, pipeline_def

    packed = load(task("jpeg256", setting).source)
    on_gpu = setting.device == "cuda"
    batch = setting.size(BATCH, 8)
    turn = 0

    def feed() -> list[np.ndarray[Any, Any]]:
        nonlocal turn
        start = turn * batch
        turn += 1
        return [np.array(packed.payload((start + index) % len(packed))) for index in range(batch)]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch, num_threads=setting.threads, device_id=0 if on_gpu else None, prefetch_queue_depth=2
    )
    def decode() -> Any:
        stored = fn.external_source(feed, batch=True)
        options: dict[str, Any] = {"device": "mixed", "hw_decoder_load": 0.0} if on_gpu else {"device": "cpu"}
        anchor, shape = np.array([16, 16], np.int32), np.array([224, 224], np.int32)
        window: dict[str, Any] = {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
        if region:
            return fn.decoders.image_slice(stored, anchor, shape, **window, **options)
        return fn.slice(fn.decoders.image(stored, **options), anchor, shape, **window)

    pipeline = decode()
    pipeline.build()
    return pipeline
