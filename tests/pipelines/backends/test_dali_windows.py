"""DALI fed with windows of JPEGs gives what it gives of whole images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.dali import DaliBackend
from pipelines.backends.reference import ReferenceBackend
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError
from tests.pipelines.backends.marked import marked
from tests.pipelines.backends.test_dali import MEAN_BOUND, SHARE_BOUND, off
from tests.pipelines.conftest import MakeDataset

ONE = np.ones(3, np.float32)


def both(shards: Path, plan: BatchPlan, size: int) -> list[torch.Tensor]:
    dataset, images = open_dataset(shards), []
    spec = OutputSpec(image_size=size, batch_size=len(plan), whole_image=True, scale=ONE, bias=0 * ONE)
    for kind in (DaliBackend, ReferenceBackend):
        backend = kind(dataset, spec, device=torch.device("cpu"))
        for _ in range(2):  # memory is used again
            backend.submit(plan)
        backend.result()
        images.append(backend.result().image)
        backend.close()
    return images


@pytest.mark.parametrize("crop_given", [True, False])
def test_what_is_not_resized_equals_the_reference(marked_shards: Path, cuts: list[int], crop_given: bool) -> None:
    rng, ids = np.random.default_rng(1), np.arange(20)
    table = open_dataset(marked_shards).table
    corner = rng.integers(0, np.stack((table.height, table.width), axis=1) - 47)
    if crop_given:
        crop = np.hstack((corner, np.full((20, 2), 48)))
        plan = BatchPlan(epoch=0, step=0, sample_id=ids, crop=crop)
    else:
        plan = BatchPlan(epoch=0, step=0, sample_id=ids, window=corner + rng.integers(-30, 30, (20, 2)))
    ours, reference = both(marked_shards, plan, 48)
    assert torch.equal(ours, reference)
    assert sum(size > 0 for size in cuts) > len(cuts) / 2


def test_the_middle_of_what_has_its_size_is_cut_and_the_rest_is_resized_whole(
    marked_shards: Path, cuts: list[int]
) -> None:
    table, ids = open_dataset(marked_shards).table, np.arange(20)
    resize = np.stack((table.height, table.width), axis=1).astype(np.int64)
    resize[::2] = 120
    ours, reference = both(
        marked_shards, BatchPlan(epoch=0, step=0, sample_id=ids, resize=resize, window=np.full((20, 2), 30)), 48
    )
    assert torch.equal(ours[1::2], reference[1::2])
    mean, share = off(ours, reference)
    assert mean <= MEAN_BOUND
    assert share <= SHARE_BOUND
    assert sum(size > 0 for size in cuts) >= 10


@pytest.mark.parametrize(
    "options",
    [{}, {"antialias": False}, {"augment": Augmentation(crop_area=(0.08, 0.3))}, {"evaluation": True}],
    ids=str,
)
def test_patches_stay_within_the_bound(marked_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 10, "device": "cpu", **options}
    with (
        PatchLoader(marked_shards, backend="dali", threads=2, **options) as ours,
        PatchLoader(marked_shards, backend="reference", **options) as reference,
    ):
        for _ in range(2):
            for left, right in zip(ours, reference, strict=True):
                assert torch.equal(left.sample_id, right.sample_id)
                mean, share = off(left.patches, right.patches)
                assert mean <= MEAN_BOUND
                assert share <= SHARE_BOUND


def test_a_damaged_sample_is_named(make_dataset: MakeDataset) -> None:
    encode = marked("420", 1)
    path = make_dataset(samples=4, shards=1, size=96, encoding="jpeg", shapes=[(150, 200)], encode_one=encode)
    dataset = open_dataset(path)
    with dataset.shard_path(0).open("r+b") as file:
        file.seek(int(dataset.table.offset[1]) + 20)
        file.write(b"\0" * (int(dataset.table.length[1]) - 40))
    loader = ImageLoader(path, global_batch_size=4, device="cpu", backend="dali", verify="never", threads=1)
    with loader, pytest.raises(CorruptSampleError, match=r"000000000001 .* cannot be decoded"):
        list(loader)
