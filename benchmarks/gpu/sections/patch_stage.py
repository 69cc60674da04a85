"""The patch stage alone: images on the device -> patches in a given order, against a copy of the same bytes.

Ways: DALI's `sequence_rearrange`, as the pipeline's graph does it; indexing in PyTorch; the same compiled; one Triton
kernel. The faster one should be what the pipeline uses behind the same interface.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.gpu.measure import attempt, emit, seconds_a_call
from benchmarks.gpu.setting import Setting

GEOMETRIES = {"32 px": (32, 8, 1024, 64), "224 px": (224, 32, 256, 8)}  # side, patch, batch, batch of a dry run


def run(setting: Setting) -> None:
    """Both geometries, all ways."""
    for name, (side, patch, batch, tiny) in GEOMETRIES.items():
        case = f"patch stage: {name}"
        count = setting.size(batch, tiny)
        images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=setting.device)
        cells = torch.rand(count, (side // patch) ** 2, device=setting.device).argsort(dim=1)
        expected = gather_torch(images, cells, patch)
        out = torch.empty_like(expected)
        ways: dict[str, Callable[[], Any]] = {
            "ceiling: device-to-device copy": partial(out.copy_, expected),
            "torch indexing": partial(gather_torch, images, cells, patch),
        }
        if not setting.dry:  # on a CPU minutes of C++ compiling for a number that means nothing
            ways["torch.compile"] = partial(torch.compile(gather_torch), images, cells, patch)
        for way, call in ways.items():
            attempt(case, way, partial(_timed, case, way, call, count, setting))
        attempt(case, "triton", partial(triton, case, images, cells, patch, expected, setting))
        attempt(case, "dali", partial(dali, case, images, cells, patch, expected, setting))


def gather_torch(images: torch.Tensor, cells: torch.Tensor, patch: int) -> torch.Tensor:
    """[B, S, S, 3] and [B, N] -> [B, N, p, p, 3]."""
    count, side = images.shape[0], images.shape[1] // patch
    grid = images.view(count, side, patch, side, patch, 3)
    rows = torch.arange(count, device=images.device)[:, None]
    return grid[rows, cells // side, :, cells % side]


def triton(
    case: str, images: torch.Tensor, cells: torch.Tensor, patch: int, expected: torch.Tensor, setting: Setting
) -> None:
    """The Triton kernel, checked first."""
    from benchmarks.gpu.sections.triton_gather import gather_triton

    if not torch.equal(gather_triton(images, cells, patch), expected):
        raise RuntimeError("the Triton gather differs from indexing in PyTorch")
    _timed(case, "triton", partial(gather_triton, images, cells, patch), len(images), setting)


def dali(
    case: str, images: torch.Tensor, cells: torch.Tensor, patch: int, expected: torch.Tensor, setting: Setting
) -> None:
    """The graph's operators on images that are already on the device; the time of the bare hand-over is taken off."""
    got, with_cut = _dali_seconds(images, cells, patch, setting, cut=True)
    _, without = _dali_seconds(images, cells, patch, setting, cut=False)
    if not torch.equal(got, expected):
        raise RuntimeError("DALI's sequence_rearrange differs from indexing in PyTorch")
    note = f"{without * 1e6:.0f} us of hand-over taken off"
    took = max(with_cut - without, 1e-9)
    emit(case, "dali sequence_rearrange", [len(images) / took], "images/s", note=note)


def _dali_seconds(
    images: torch.Tensor, cells: torch.Tensor, patch: int, setting: Setting, *, cut: bool
) -> tuple[torch.Tensor, float]:
    from nvidia.dali import fn, pipeline_def

    count, size = images.shape[0], images.shape[1]
    side = size // patch
    orders = cells.cpu().numpy().astype(np.int32)
    on_gpu = setting.device == "cuda"
    place = "gpu" if on_gpu else "cpu"
    given = images if on_gpu else images.numpy()

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=count, num_threads=setting.threads, device_id=0 if on_gpu else None, prefetch_queue_depth=1
    )
    def graph() -> Any:
        image = fn.external_source(lambda: given, batch=True, device=place, layout="HWC")
        order = fn.external_source(lambda: orders, batch=True)
        if not cut:
            return image
        grid = fn.transpose(fn.reshape(image, shape=[side, patch, side, patch * 3], layout=""), perm=[0, 2, 1, 3])
        frames = fn.reshape(grid, shape=[side * side, patch, patch, 3], layout="FHWC")
        return fn.sequence_rearrange(frames, new_order=order)

    pipeline = graph()
    pipeline.build()
    seconds = seconds_a_call(pipeline.run, setting)
    (result,) = pipeline.run()
    return from_dlpack(result.as_tensor()).clone(), float(np.median(seconds))


def _timed(case: str, way: str, call: Callable[[], Any], count: int, setting: Setting) -> None:
    runs = [count / seconds for seconds in seconds_a_call(call, setting)]
    emit(case, way, runs, "images/s", note=setting.device)
