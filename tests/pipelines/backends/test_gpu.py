"""The DALI graph on a GPU against the reference. Skipped, and reported as such, where there is no GPU."""

from pathlib import Path

import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import PatchBatch
from tests.pipelines.backends.test_dali import MEAN_BOUND, SHARE_BOUND, off

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

# nvJPEG's own inverse transform differs from libjpeg's by a little more than resizing does; its upsampling does not.
DECODED_MEAN_BOUND = 0.6


@pytest.mark.parametrize(
    "options", [{}, {"masking": "zero", "whole_image": True, "dtype": "float32"}, {"dtype": "bfloat16"}], ids=str
)
def test_raw_patches_equal_the_reference(raw_shards: Path, options: dict[str, object]) -> None:
    with (
        PatchLoader(raw_shards, global_batch_size=9, device="cuda", backend="dali", **options) as ours,
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


def test_decoded_images_stay_near_the_reference(photo_shards: Path) -> None:
    with (
        PatchLoader(photo_shards, global_batch_size=15, device="cuda", backend="dali") as ours,
        PatchLoader(photo_shards, global_batch_size=15, device="cpu", backend="reference") as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert torch.equal(left.sample_id.cpu(), right.sample_id)
            assert off(left.patches.cpu(), right.patches)[0] <= DECODED_MEAN_BOUND


def test_images_of_pixels_stay_within_the_bound_of_the_resize(raw_shards: Path) -> None:
    from pipelines.sampling.augment import Augmentation

    options = {"global_batch_size": 10, "augment": Augmentation(flip=True, crop_area=(0.3, 1.0))}
    with (
        ImageLoader(raw_shards, device="cuda", backend="dali", **options) as ours,
        ImageLoader(raw_shards, device="cpu", backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            mean, share = off(left.image.cpu(), right.image)
            assert mean <= MEAN_BOUND
            assert share <= SHARE_BOUND


def test_resume_gives_the_same_tensors(raw_shards: Path) -> None:
    with PatchLoader(raw_shards, global_batch_size=10, device="cuda", backend="dali") as loader:
        batches = iter(loader)
        next(batches)
        state, rest = loader.state_dict(), [batch.patches.clone() for batch in batches]
    with PatchLoader(raw_shards, global_batch_size=10, device="cuda", backend="dali") as loader:
        loader.load_state_dict(state)
        for batch, expected in zip(loader, rest, strict=True):
            assert torch.equal(batch.patches, expected)


def test_tensors_stay_valid_while_they_are_held(photo_shards: Path) -> None:
    with PatchLoader(photo_shards, global_batch_size=5, device="cuda", backend="dali") as loader:
        held = [(batch.patches, batch.patches.clone()) for _ in range(3) for batch in loader]
    torch.cuda.synchronize()
    for patches, copy in held:
        assert torch.equal(patches, copy)
