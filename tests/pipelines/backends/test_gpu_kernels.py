"""Triton's kernels, in its interpreter, give what the reference gives, to the bit, for whatever a plan asks.

A program takes the interpreter milliseconds, so `make test` sees small images, and few patches of photographs.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.backends import gpu
from pipelines.batch_plan import BatchPlan, Dtype, OutputSpec
from pipelines.kernels import patches_triton
from selfie_data.errors import DeviceError
from tests.pipelines.backends.device_images import CPU, ListedImages, by_kernels, by_reference
from tests.pipelines.conftest import random_images

SCALE, BIAS = np.array([0.0171, 0.0175, 0.0174], np.float32), np.array([-2.118, -2.036, -1.804], np.float32)


def spec_of(**changes: Any) -> OutputSpec:
    wanted: dict[str, Any] = {
        "image_size": 16, "batch_size": 2, "patch_size": 8, "patch_count": 3, "whole_image": True,
        "scale": SCALE, "bias": BIAS,
    }  # fmt: skip
    return OutputSpec(**{**wanted, **changes})


def images_of(seed: int, shapes: list[tuple[int, int]]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def drawn_plan(rng: np.random.Generator, shapes: list[tuple[int, int]], spec: OutputSpec, given: set[str]) -> BatchPlan:
    """A plan with what `given` names, crops of any size, windows that may overhang on any side or lie outside."""
    count, size, fields = len(shapes), spec.image_size, {}
    stored = np.array(shapes)
    if "crop" in given:
        corner = rng.integers(0, stored)
        fields["crop"] = np.hstack((corner, rng.integers(1, stored - corner + 1)))
    if "resize" in given:
        fields["resize"] = rng.integers(1, 3 * size, (count, 2))
        fields["resize"][::2] = size
    if "window" in given:
        fields["window"] = rng.integers(-size - 2, 2 * size, (count, 2))
    if "flip" in given:
        fields["flip"] = rng.random(count) < 0.5
    if spec.patch_size is not None:
        cells = (size // spec.patch_size) ** 2
        fields["position"] = rng.integers(0, cells, (count, spec.patch_count))
        if "hidden" in given:
            fields["hidden"] = rng.random((count, spec.patch_count)) < 0.5
            fields["mask"] = rng.random((count, cells)) < 0.5
    return BatchPlan(epoch=0, step=0, sample_id=np.arange(count), **fields)


def assert_equal(images: list[Any], plan: BatchPlan, spec: OutputSpec, *, windowed: bool = False) -> None:
    ours, reference = by_kernels(images, plan, spec, windowed=windowed), by_reference(images, plan, spec)
    for left, right in ((ours.patches, reference.patches), (ours.image, reference.image)):
        assert (left is None) == (right is None)
        if left is not None and right is not None:
            assert left.dtype == right.dtype
            assert torch.equal(left, right)


PLANS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1 << 30),
        "shapes": st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=2),
        "given": st.sets(st.sampled_from(["crop", "resize", "window", "flip", "hidden"])),
        "dtype": st.sampled_from(["uint8", "float32", "float16", "bfloat16"]),
        "antialias": st.booleans(),
        "patch_size": st.sampled_from([8, 4, 16, None]),
        "windowed": st.booleans(),
    }
)


def check(drawn: dict[str, Any]) -> None:
    patch_size = drawn["patch_size"]
    spec = spec_of(
        dtype=drawn["dtype"],
        antialias=drawn["antialias"],
        patch_size=patch_size,
        patch_count=3 if patch_size else 0,
        whole_image=patch_size is None or drawn["seed"] % 2 == 0,
    )
    plan = drawn_plan(np.random.default_rng(drawn["seed"]), drawn["shapes"], spec, drawn["given"])
    assert_equal(images_of(drawn["seed"], drawn["shapes"]), plan, spec, windowed=drawn["windowed"])


@settings(max_examples=100, deadline=None)
@given(PLANS)
def test_generated_plans_equal_the_reference(drawn: dict[str, Any]) -> None:
    check(drawn)


@pytest.mark.fuzz
@settings(max_examples=2000, deadline=None)
@given(PLANS)
def test_very_many_generated_plans_equal_the_reference(drawn: dict[str, Any]) -> None:
    check(drawn)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_every_byte_becomes_the_float_of_the_reference(dtype: Dtype) -> None:
    """All 768 values there are, also where bfloat16 and float16 lie between two of their own."""
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[:, :, None].repeat(3, axis=2)
    plan = BatchPlan(epoch=0, step=0, sample_id=np.zeros(1, np.int64), position=np.array([[3, 0, 2]]))
    assert_equal([image], plan, spec_of(dtype=dtype))


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("shape", [(150, 200), (16, 130), (140, 3)])
def test_large_crops_take_a_pass_along_the_width_first(
    shape: tuple[int, int], windowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, weigh = [], patches_triton.weigh_rows
    monkeypatch.setattr(gpu, "weigh_rows", lambda *given: passes.append(given) or weigh(*given))
    rng = np.random.default_rng(3)
    plan = drawn_plan(rng, [shape, (20, 20)], spec_of(), {"resize", "flip", "hidden", "window"})
    assert_equal(images_of(3, [shape, (20, 20)]), plan, spec_of(), windowed=windowed)
    assert len(passes) == 1


def test_padded_crops_as_finetuning_draws_them() -> None:
    window = np.array([[-4, 4], [0, -3]])
    plan = BatchPlan(epoch=0, step=0, sample_id=np.arange(2), window=window, flip=np.array([True, False]))
    spec = spec_of(patch_size=None, patch_count=0, dtype="float32")
    assert_equal(images_of(1, [(16, 16), (16, 16)]), plan, spec)


def photographs(seed: int, shapes: list[tuple[int, int]]) -> list[Any]:
    whole = random_images(len(shapes), 700, seed)
    return [image[: shape[0], : shape[1]] for image, shape in zip(whole, shapes, strict=True)]


def photograph_plan(seed: int, shapes: list[tuple[int, int]], slots: int) -> BatchPlan:
    rng, stored = np.random.default_rng(seed), np.array(shapes)
    corner = rng.integers(0, stored // 3)
    return BatchPlan(
        epoch=0,
        step=0,
        sample_id=np.arange(len(shapes)),
        crop=np.hstack((corner, rng.integers(stored // 3, stored - corner + 1))),
        resize=np.full((len(shapes), 2), 224),
        flip=rng.random(len(shapes)) < 0.5,
        position=np.stack([rng.permutation(49)[:slots] for _ in shapes]),
    )


def test_patches_of_photographs_equal_the_reference() -> None:
    shapes = [(256, 340), (341, 256), (500, 375)]
    spec = spec_of(image_size=224, batch_size=3, patch_size=32, patch_count=12, whole_image=False)
    assert_equal(photographs(5, shapes), photograph_plan(5, shapes, 12), spec)


@pytest.mark.fuzz
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
@pytest.mark.parametrize("shapes", [[(256, 340)], [(500, 375), (375, 500)], [(700, 640), (64, 80)]])
def test_whole_photographs_equal_the_reference(shapes: list[tuple[int, int]], dtype: Dtype) -> None:
    spec = spec_of(image_size=224, patch_size=32, patch_count=49, dtype=dtype)
    for seed in range(3):
        assert_equal(photographs(seed, shapes), photograph_plan(seed, shapes, 49), spec, windowed=bool(seed % 2))


def test_a_fault_of_the_kernels_ends_the_run_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight that is 0.4 % too large, which no eye would see; of the second image only."""
    calculate, images = gpu.calculate_taps, images_of(7, [(30, 30)] * 3)

    def faulty(*args: Any, **options: Any) -> Any:
        taps = calculate(*args, **options)
        taps.weight[1, 1, 0] += 1 << 14
        return taps

    monkeypatch.setattr(gpu, "calculate_taps", faulty)
    spec = spec_of(batch_size=3)
    plan = drawn_plan(np.random.default_rng(7), [(30, 30)] * 3, spec, {"resize"})
    backend = gpu.GpuBackend(spec, ListedImages(images, windowed=False), device=CPU)
    backend.submit(plan)
    match = r"^cpu makes other patches .* of 1 of the first 3 images, sample 1 .*backend='dali-operators', or .*'cpu'"
    with pytest.raises(DeviceError, match=match) as error:
        backend.result()
    assert "\n" not in str(error.value)


def test_a_fault_of_the_pass_that_only_large_crops_take_is_found_when_it_is_first_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weigh, images, spec = gpu.weigh_rows, images_of(8, [(20, 20), (20, 20), (150, 150)]), spec_of()

    def faulty(*args: Any) -> Any:
        rows, views = weigh(*args)
        rows[-1] ^= 1
        return rows, views

    monkeypatch.setattr(gpu, "weigh_rows", faulty)
    backend = gpu.GpuBackend(spec, ListedImages(images, windowed=False), device=CPU)
    for ids in ((0, 1), (1, 2)):
        plan = drawn_plan(np.random.default_rng(8), [images[row].shape[:2] for row in ids], spec, set())
        size = np.full((2, 2), spec.image_size)
        backend.submit(replace(plan, sample_id=np.array(ids), resize=size, position=np.array([[0, 1, 2], [3, 1, 2]])))
    backend.result()
    with pytest.raises(DeviceError, match="of 1 of the first 2 images, sample 2 among them"):
        backend.result()


def test_one_tall_crop_does_not_make_rows_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made, weigh = [], gpu.weigh_rows
    monkeypatch.setattr(gpu, "weigh_rows", lambda *given: made.append(weigh(*given)) or made[0])
    shapes, spec = [(20, 30), (300, 9), (17, 16)], spec_of(batch_size=3)
    plan = drawn_plan(np.random.default_rng(4), shapes, spec, set())
    assert_equal(images_of(4, shapes), replace(plan, resize=np.full((3, 2), 16)), spec)
    assert len(made[0][0]) == sum(height for height, _ in shapes)


def test_only_the_first_batch_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(gpu, "render", lambda *given: compared.append(given) or by_reference(images, plan, spec))
    images, spec = images_of(2, [(16, 16)] * 2), spec_of()
    plan = drawn_plan(np.random.default_rng(2), [(16, 16)] * 2, spec, set())
    backend = gpu.GpuBackend(spec, ListedImages(images, windowed=False), device=CPU)
    for _ in range(3):
        backend.submit(plan)
    for _ in range(3):
        backend.result()
    assert len(compared) == 1
