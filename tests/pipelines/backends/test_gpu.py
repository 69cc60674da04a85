"""The backends of a GPU against the reference, on one. Skipped, and reported as such, where there is no GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import PatchBatch
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from tests.pipelines.backends.device_images import by_kernels, by_reference
from tests.pipelines.backends.test_dali import MEAN_BOUND, SHARE_BOUND, off

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

# nvJPEG's own inverse transform differs from libjpeg's by a little more than resizing does; its upsampling does not.
DECODED_MEAN_BOUND = 0.6


BOTH = pytest.mark.parametrize("backend", ["gpu", "dali-operators"])


@BOTH
@pytest.mark.parametrize(
    "options", [{}, {"masking": "zero", "whole_image": True, "dtype": "float32"}, {"dtype": "bfloat16"}], ids=str
)
def test_raw_patches_equal_the_reference(raw_shards: Path, backend: str, options: dict[str, object]) -> None:
    with (
        PatchLoader(raw_shards, global_batch_size=9, device="cuda", backend=backend, **options) as ours,
        PatchLoader(raw_shards, global_batch_size=9, device="cpu", backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert isinstance(left, PatchBatch)
            assert isinstance(right, PatchBatch)
            for name in ("sample_id", "position", "mask", "patches"):
                assert getattr(left, name).device.type == "cuda"
                assert torch.equal(getattr(left, name).cpu(), getattr(right, name))
            if left.image is not None:
                assert torch.equal(left.image.cpu(), right.image)


@BOTH
def test_decoded_images_stay_near_the_reference(photo_shards: Path, backend: str) -> None:
    with (
        PatchLoader(photo_shards, global_batch_size=15, device="cuda", backend=backend) as ours,
        PatchLoader(photo_shards, global_batch_size=15, device="cpu", backend="reference") as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert torch.equal(left.sample_id.cpu(), right.sample_id)
            assert off(left.patches.cpu(), right.patches)[0] <= DECODED_MEAN_BOUND


def test_images_of_pixels_stay_within_the_bound_of_the_resize(raw_shards: Path) -> None:
    options = {"global_batch_size": 10, "augment": Augmentation(flip=True, crop_area=(0.3, 1.0))}
    with (
        ImageLoader(raw_shards, device="cuda", backend="dali-operators", **options) as ours,
        ImageLoader(raw_shards, device="cpu", backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            mean, share = off(left.image.cpu(), right.image)
            assert mean <= MEAN_BOUND
            assert share <= SHARE_BOUND


@BOTH
def test_resume_gives_the_same_tensors(raw_shards: Path, backend: str) -> None:
    with PatchLoader(raw_shards, global_batch_size=10, device="cuda", backend=backend) as loader:
        batches = iter(loader)
        next(batches)
        state, rest = loader.state_dict(), [batch.patches.clone() for batch in batches]
    with PatchLoader(raw_shards, global_batch_size=10, device="cuda", backend=backend) as loader:
        loader.load_state_dict(state)
        for batch, expected in zip(loader, rest, strict=True):
            assert torch.equal(batch.patches, expected)


@BOTH
def test_tensors_stay_valid_while_they_are_held(photo_shards: Path, backend: str) -> None:
    with PatchLoader(photo_shards, global_batch_size=5, device="cuda", backend=backend) as loader:
        held = [(batch.patches, batch.patches.clone()) for _ in range(3) for batch in loader]
    torch.cuda.synchronize()
    for patches, copy in held:
        assert torch.equal(patches, copy)


CROPPED = {"augment": Augmentation(flip=True, crop_area=(0.08, 1.0))}


@pytest.mark.parametrize(
    "options",
    [{}, {**CROPPED, "dtype": "bfloat16"}, {**CROPPED, "dtype": "float16"}, {**CROPPED, "antialias": False}],
    ids=str,
)
@pytest.mark.parametrize("dataset", ["raw_shards", "photo_shards"])
def test_decoded_by_the_cpu_all_bits_are_the_reference_s(
    dataset: str, options: dict[str, object], request: pytest.FixtureRequest
) -> None:
    shards, options = request.getfixturevalue(dataset), {"global_batch_size": 10, **options}
    with (
        PatchLoader(shards, device="cuda", backend="gpu", decode="cpu", **options) as ours,
        PatchLoader(shards, device="cpu", backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert torch.equal(left.patches.cpu(), right.patches)


def test_the_resident_store_equals_the_shards(raw_shards: Path, tmp_path: Path) -> None:
    export_store(open_dataset(raw_shards), tmp_path / "store.zarr")
    with (
        PatchLoader(raw_shards, global_batch_size=10, device="cuda", store=tmp_path / "store.zarr", **CROPPED) as ours,
        PatchLoader(raw_shards, global_batch_size=10, device="cpu", backend="reference", **CROPPED) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert torch.equal(left.patches.cpu(), right.patches)


def test_large_crops_take_a_pass_along_the_width_first() -> None:
    rng = np.random.default_rng(0)
    images, one = (
        [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in [(700, 900), (90, 64)]],
        np.ones(3, np.float32),
    )
    spec = OutputSpec(image_size=64, batch_size=2, patch_size=32, patch_count=4, scale=one, bias=0 * one)
    position = np.arange(4)[None].repeat(2, axis=0)
    plan = BatchPlan(epoch=0, step=0, sample_id=np.arange(2), resize=np.full((2, 2), 64), position=position)
    ours = by_kernels(images, plan, spec, device=torch.device("cuda", 0)).patches
    assert torch.equal(ours.cpu(), by_reference(images, plan, spec).patches)
