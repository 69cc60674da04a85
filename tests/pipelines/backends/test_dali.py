"""The DALI graph on the CPU: exact for raw images, within a stated bound through its own resize."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from nvidia.dali import Pipeline, fn, types

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.dali import DaliBackend
from pipelines.backends.dali_graph import GraphInputs, build_graph, to_patches
from pipelines.backends.reference import ReferenceBackend
from pipelines.batch import PatchBatch
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.grid import patchify
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import assert_same_stream

# DALI's resize computes in float32 and rounds once, Pillow's rounds to bytes between its two passes.
MEAN_BOUND = 0.3
SHARE_BOUND = 0.005  # of values that are off by more than 1

EXACT = [
    {},
    {"masking": "zero", "whole_image": True, "dtype": "float32"},
    {"context": 3, "target": 5, "dtype": "bfloat16", "whole_image": True},
    {"patch_size": 16, "dtype": "float16"},
    {"evaluation": True, "global_batch_size": 20},
]
RESIZED = [
    {},
    {"masking": "zero", "whole_image": True},
    {"antialias": False},
    {"augment": Augmentation(crop_area=(0.08, 0.3))},
    {"evaluation": True},
]


def off(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    difference = (ours.float() - theirs.float()).abs()
    return difference.mean().item(), (difference > 1).float().mean().item()


@pytest.mark.parametrize("options", EXACT, ids=str)
def test_raw_patches_equal_the_reference(raw_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 9, "device": "cpu", "seed": 3, **options}
    with (
        PatchLoader(raw_shards, backend="dali", threads=2, **options) as ours,
        PatchLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("options", [{}, {"evaluation": True}, {"augment": Augmentation(padding=9)}], ids=str)
def test_raw_images_equal_the_reference(raw_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 7, "device": "cpu", **options}
    with (
        ImageLoader(raw_shards, backend="dali", threads=2, **options) as ours,
        ImageLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("options", RESIZED, ids=str)
def test_resized_patches_stay_within_the_bound(photo_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 15, "device": "cpu", **options}
    with (
        PatchLoader(photo_shards, backend="dali", threads=2, **options) as ours,
        PatchLoader(photo_shards, backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert isinstance(left, PatchBatch)
            assert isinstance(right, PatchBatch)
            for name in ("sample_id", "position", "mask"):
                assert torch.equal(getattr(left, name), getattr(right, name))
            mean, share = off(left.patches, right.patches)
            assert mean <= MEAN_BOUND
            assert share <= SHARE_BOUND


def test_decoding_a_region_equals_decoding_all_of_it(photo_shards: Path) -> None:
    """Crops without a resize leave nothing but the decoder, which then must equal Pillow's to the bit."""
    dataset, rng = open_dataset(photo_shards), np.random.default_rng(1)
    one = np.ones(3, np.float32)
    spec = OutputSpec(image_size=48, batch_size=30, whole_image=True, scale=one, bias=one)
    top, left = rng.integers(0, 48, (2, 30))
    crop = np.stack((top, left, np.full(30, 48), np.full(30, 48)), axis=1)
    plan = BatchPlan(epoch=0, step=0, sample_id=np.arange(30), crop=crop)
    images = []
    for kind in (DaliBackend, ReferenceBackend):
        backend = kind(dataset, spec, device=torch.device("cpu"))
        backend.submit(plan)
        images.append(backend.result().image)
        backend.close()
    assert torch.equal(images[0], images[1])


@pytest.mark.parametrize(("size", "patch", "count"), [(32, 8, 16), (32, 8, 5), (96, 32, 9), (28, 4, 60)])
def test_patches_as_frames_equal_numpy(size: int, patch: int, count: int) -> None:
    rng, one = np.random.default_rng(0), np.ones(3, np.float32)
    images = rng.integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    cells = rng.integers(0, (size // patch) ** 2, (6, count)).astype(np.int32)
    spec = OutputSpec(image_size=size, batch_size=6, patch_size=patch, patch_count=count, scale=one, bias=one)
    pipeline = Pipeline(batch_size=6, num_threads=1, device_id=None)
    with pipeline:
        image = fn.external_source(name="image", ndim=3, dtype=types.UINT8, layout="HWC")
        pipeline.set_outputs(to_patches(image, spec))
    pipeline.feed_input("image", images)
    pipeline.feed_input("cells", cells)
    ours = pipeline.run()[0].as_array()
    np.testing.assert_array_equal(ours, patchify(images, patch)[np.arange(6)[:, None], cells])


def test_tensors_are_handed_on_without_a_copy_and_stay_valid(photo_shards: Path) -> None:
    with PatchLoader(photo_shards, global_batch_size=5, device="cpu", backend="dali", threads=1) as loader:
        held = [(batch.patches, batch.patches.clone()) for _ in range(2) for batch in loader]
        assert len({patches.data_ptr() for patches, _ in held}) == len(held)
    gc.collect()
    for patches, copy in held:
        assert torch.equal(patches, copy)


def test_a_sample_that_cannot_be_decoded_is_named(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset(samples=6, shards=2, encoding="jpeg"))
    with dataset.shard_path(0).open("r+b") as file:
        file.seek(int(dataset.table.offset[1]))
        file.write(b"\0" * 200)
    loader = PatchLoader(dataset, global_batch_size=6, device="cpu", backend="dali", verify="never", threads=1)
    with loader, pytest.raises(CorruptSampleError, match=r"000000000001 .* cannot be decoded"):
        list(loader)
    loader = PatchLoader(dataset, global_batch_size=6, device="cpu", backend="dali", threads=1)
    with loader, pytest.raises(CorruptSampleError, match=r"000000000001 .* CRC32C"):
        list(loader)


def test_closing_ends_its_threads(photo_shards: Path) -> None:
    before = threading.active_count()
    loader = PatchLoader(photo_shards, global_batch_size=5, device="cpu", backend="dali", threads=2)
    next(iter(loader))
    loader.close()
    gc.collect()
    assert threading.active_count() == before


def test_the_graph_of_a_gpu_can_be_described_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators check their arguments when the graph is written down; building it needs the device."""
    monkeypatch.setattr(Pipeline, "build", lambda *_: None)
    one = np.ones(3, np.float32)
    spec = OutputSpec(
        image_size=224, batch_size=4, patch_size=32, patch_count=49, whole_image=True, scale=one, bias=one
    )
    every = GraphInputs(crop=True, resize=True, window=True, flip=True, cells=True)
    for raw in (True, False):
        assert build_graph(spec, every, raw=raw, device_id=0, threads=1) is not None
