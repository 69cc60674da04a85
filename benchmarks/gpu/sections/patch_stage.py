"""The patch stage alone: images on the device -> patches in a given order, against a copy of the same bytes.

Ways: Triton's kernels, as the backend `gpu` launches them, its geometry and its small copies included; DALI's
operators, as `dali-operators` has them in its graph; indexing in PyTorch; the same compiled. Cutting alone, and all
there is between a decoder and patches of 224 px: random crops, resized, mirrored, cut. The faster is to be the default.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.gpu.measure import attempt, emit, seconds_a_call
from benchmarks.gpu.setting import Setting
from pipelines.batch_plan import BatchPlan, OutputSpec

GEOMETRIES = {"32 px": (32, 8, 1024, 4), "224 px": (224, 32, 256, 2)}  # side, patch, batch, batch of a dry run


STORED = (256, 1024)  # sides of stored images: crops that take one pass, and two


def run(setting: Setting) -> None:
    """Both geometries, all ways; then crops."""
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
        attempt(case, "gpu kernels", partial(kernels, case, images, cells, patch, expected, setting))
        attempt(case, "dali", partial(dali, case, images, cells, patch, expected, setting))
    for side in STORED[: 1 if setting.dry else None]:
        case = f"crop to patches: {side} px to 224"
        attempt(case, "gpu kernels", partial(crops_by_kernels, case, side, setting))
        attempt(case, "dali-operators", partial(crops_by_operators, case, side, setting))


def gather_torch(images: torch.Tensor, cells: torch.Tensor, patch: int) -> torch.Tensor:
    """[B, S, S, 3] and [B, N] -> [B, N, p, p, 3]."""
    count, side = images.shape[0], images.shape[1] // patch
    grid = images.view(count, side, patch, side, patch, 3)
    rows = torch.arange(count, device=images.device)[:, None]
    return grid[rows, cells // side, :, cells % side]


def kernels(
    case: str, images: torch.Tensor, cells: torch.Tensor, patch: int, expected: torch.Tensor, setting: Setting
) -> None:
    """The backend on images that are already on the device, checked first."""
    count, side = images.shape[:2]
    plan = BatchPlan(epoch=0, step=0, sample_id=np.arange(count), position=cells.cpu().numpy())
    step = backend_step(images, plan, spec_of(plan, side, patch), setting)
    if not torch.equal(step(), expected):
        raise RuntimeError("the kernels' patches differ from indexing in PyTorch")
    _timed(case, "gpu kernels", step, count, setting)


def backend_step(images: torch.Tensor, plan: BatchPlan, spec: OutputSpec, setting: Setting) -> Callable[[], Any]:
    """What makes patches of a plan, as a loader's backend does; the first call compares with the reference."""
    from pipelines.backends.choose import resolve_device
    from pipelines.backends.gpu import GpuBackend
    from pipelines.backends.gpu_store import ResidentImages

    device = resolve_device(setting.device)
    backend = GpuBackend(spec, ResidentImages(images.cpu().numpy(), device), device=device)

    def step() -> Any:
        backend.submit(plan)
        return backend.result().patches

    return step


def spec_of(plan: BatchPlan, side: int, patch: int) -> OutputSpec:
    """Bytes, the patches of a plan."""
    assert plan.position is not None
    count = plan.position.shape[1]
    one = np.ones(3, np.float32)
    return OutputSpec(
        image_size=side, batch_size=len(plan), patch_size=patch, patch_count=count, scale=one, bias=0 * one
    )


def crops(side: int, setting: Setting) -> tuple[torch.Tensor, BatchPlan]:
    """Stored images, side x side, and crops of a tenth to all of their area, mirrored or not, every patch of them."""
    count, rng = setting.size(256, 1), np.random.default_rng(0)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=setting.device)
    shape = (side * np.sqrt(rng.uniform(0.1, 1, (count, 2)))).astype(np.int64)
    return images, BatchPlan(
        epoch=0,
        step=0,
        sample_id=np.arange(count),
        crop=np.hstack((rng.integers(0, side - shape + 1), shape)),
        resize=np.full((count, 2), 224),
        flip=rng.random(count) < 0.5,
        position=rng.permuted(np.tile(np.arange(49), (count, 1)), axis=1),
    )


def crops_by_kernels(case: str, side: int, setting: Setting) -> None:
    """All of the patch stage by the kernels."""
    images, plan = crops(side, setting)
    step = backend_step(images, plan, spec_of(plan, 224, 32), setting)
    step()
    _timed(case, "gpu kernels", step, len(plan), setting)


def crops_by_operators(case: str, side: int, setting: Setting) -> None:
    """All of the patch stage by DALI's operators; the bare hand-over is taken off."""
    images, plan = crops(side, setting)
    times = (_operator_seconds(images, plan, setting, work=work) for work in (True, False))
    with_work, without = (float(np.median(seconds)) for seconds in times)
    took = max(with_work - without, 1e-9)
    note = f"{without * 1e6:.0f} us of hand-over taken off"
    emit(case, "dali-operators", [len(plan) / took], "images/s", note=note)


def _operator_seconds(images: torch.Tensor, plan: BatchPlan, setting: Setting, *, work: bool) -> list[float]:
    from nvidia.dali import fn

    from pipelines.dali.decoder import new_pipeline
    from pipelines.dali.operators import CELLS, CROP, FLIP, RESIZE, GraphInputs, crop_of, to_image, to_patches

    on_gpu, spec = setting.device == "cuda", spec_of(plan, 224, 32)
    pipeline = new_pipeline(batch_size=len(plan), device_id=0 if on_gpu else None, threads=setting.threads)
    with pipeline:
        image = fn.external_source(name="images", ndim=3, device="gpu" if on_gpu else "cpu", layout="HWC")
        if work:
            image = to_patches(to_image(crop_of(image), spec, GraphInputs.of(plan)), spec)
        pipeline.set_outputs(image)
    pipeline.build()
    given = images if on_gpu else images.numpy()
    named = {CROP: plan.crop, RESIZE: plan.resize, FLIP: plan.flip, CELLS: plan.position} if work else {}
    integers = {name: np.asarray(values, np.int32) for name, values in named.items()}

    def call() -> Any:
        pipeline.feed_input("images", given)
        for name, values in integers.items():
            pipeline.feed_input(name, values)
        return pipeline.run()

    return seconds_a_call(call, setting)


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
    runs = [count / seconds for seconds in seconds_a_call(call, setting, runs=setting.size(5, 1))]
    emit(case, way, runs, "images/s", note=setting.device)
