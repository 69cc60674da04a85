"""The backend of a CPU gives what the reference gives, to the bit, whatever is asked for."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.cpu_shards import ShardBackend
from pipelines.backends.reference import ReferenceBackend
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.errors import CorruptSampleError
from tests.pipelines.conftest import MakeDataset, write_dataset
from tests.pipelines.streams import assert_same_stream

ONE = np.ones(3, np.float32)
CPU = torch.device("cpu")

PATCHES = [
    {},
    {"masking": "zero", "whole_image": True},
    {"masking": "zero", "whole_image": True, "dtype": "float32"},
    {"context": 3, "target": 5, "dtype": "bfloat16", "whole_image": True},
    {"patch_size": 16, "dtype": "float16"},
    {"augment": "none"},
    {"augment": Augmentation(flip=True, crop_area=(0.2, 1.0)), "whole_image": True},
    {"augment": Augmentation(flip=True, crop_area=(0.2, 1.0)), "antialias": False},
    {"evaluation": True, "global_batch_size": 20},
    {"rank": 1, "world_size": 3},
]
IMAGES = [
    {},
    {"dtype": "float32"},
    {"augment": "none"},
    {"augment": Augmentation(padding=3), "dtype": "bfloat16"},
    {"augment": Augmentation(flip=True, crop_area=(0.08, 1.0))},
    {"evaluation": True},
]


@pytest.fixture(scope="session")
def png_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = [(96, 96), (100, 150), (40, 200)]
    path = tmp_path_factory.mktemp("png") / "shards"
    return write_dataset(path, samples=20, size=96, encoding="png", shapes=shapes)


@pytest.mark.parametrize("shards", ["raw_shards", "photo_shards", "png_shards"])
@pytest.mark.parametrize("options", PATCHES, ids=str)
def test_patches_equal_the_reference(shards: str, options: dict[str, object], request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(shards)
    options = {"global_batch_size": 9, "device": "cpu", "seed": 3, **options}
    with (
        PatchLoader(path, backend="cpu", threads=2, **options) as ours,
        PatchLoader(path, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("shards", ["raw_shards", "photo_shards", "png_shards"])
@pytest.mark.parametrize("options", IMAGES, ids=str)
def test_images_equal_the_reference(shards: str, options: dict[str, object], request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(shards)
    options = {"global_batch_size": 7, "device": "cpu", "seed": 4, **options}
    with (
        ImageLoader(path, backend="cpu", threads=2, **options) as ours,
        ImageLoader(path, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


def test_fused_is_another_name_of_it(raw_shards: Path) -> None:
    options = {"global_batch_size": 9, "device": "cpu"}
    with (
        PatchLoader(raw_shards, backend="fused", **options) as ours,
        PatchLoader(raw_shards, backend="cpu", **options) as same,
    ):
        assert_same_stream(ours, same)


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (1, 3), (4, 1), (3, 4)])
def test_threads_and_prefetch_change_nothing(photo_shards: Path, threads: int, prefetch: int) -> None:
    options = {"global_batch_size": 9, "device": "cpu"}
    with (
        PatchLoader(photo_shards, backend="cpu", threads=threads, prefetch=prefetch, **options) as ours,
        PatchLoader(photo_shards, backend="reference", **options) as reference,
    ):
        for _ in range(2):
            assert_same_stream(ours, reference)


@pytest.mark.real_data
def test_real_photographs_equal_the_reference(real_data: Path, tmp_path: Path) -> None:
    from selfie_data.build.build_shards import build_shards
    from selfie_data.build.options import BuildOptions
    from selfie_data.sources import open_source

    source = open_source("tar", real_data / "imagenet-fullres-120.tar", limit=40)
    build_shards(source, tmp_path / "shards", BuildOptions(size=224, resize_shorter=0))
    options = {"global_batch_size": 13, "device": "cpu"}
    with (
        PatchLoader(tmp_path / "shards", backend="cpu", threads=2, **options) as ours,
        PatchLoader(tmp_path / "shards", backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


def spec(dataset: Dataset, **changes: object) -> OutputSpec:
    fields = {"image_size": dataset.image_size, "batch_size": 8, "whole_image": True, "scale": ONE, "bias": 0 * ONE}
    return OutputSpec(**{**fields, **changes})


def plan(ids: list[int], **fields: object) -> BatchPlan:
    return BatchPlan(epoch=0, step=0, sample_id=np.array(ids), **fields)


def test_plans_with_every_mixture_of_fields_equal_the_reference(photo_shards: Path) -> None:
    dataset, rng = open_dataset(photo_shards), np.random.default_rng(0)
    wanted = spec(dataset, patch_size=12, patch_count=10, dtype="float32")
    backends = [kind(dataset, wanted, device=CPU, threads=2) for kind in (ShardBackend, ReferenceBackend)]
    for number in range(32):
        ids = rng.integers(0, len(dataset), 8)
        fields: dict[str, object] = {"position": rng.integers(0, 64, (8, 10))}
        if number & 1:
            top, left = rng.integers(0, 40, (2, 8))
            fields["crop"] = np.stack((top, left, rng.integers(1, 50, 8), rng.integers(1, 50, 8)), axis=1)
        if number & 2:
            fields["resize"] = rng.integers(50, 150, (8, 2))
        if number & 4:
            fields["window"] = rng.integers(-100, 100, (8, 2))
        if number & 8:
            fields["flip"] = rng.random(8) < 0.5
        if number & 16:
            fields |= {"hidden": rng.random((8, 10)) < 0.5, "mask": rng.random((8, 64)) < 0.5}
        for backend in backends:
            backend.submit(BatchPlan(epoch=0, step=number, sample_id=ids, **fields))
    for _ in range(32):
        ours, reference = (backend.result() for backend in backends)
        assert torch.equal(ours.patches, reference.patches)
        assert torch.equal(ours.image, reference.image)
    for backend in backends:
        backend.close()
        backend.close()


def test_a_sample_that_cannot_be_decoded_is_named(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = iter([b"\xff\xd8\xff\xe0 this is no JPEG" if number == 2 else _jpeg(number) for number in range(6)])
    monkeypatch.setattr("tests.pipelines.conftest.encode", lambda *_: next(payloads))
    dataset = open_dataset(make_dataset(samples=6, shards=1, encoding="jpeg"))
    backend = ShardBackend(dataset, spec(dataset), device=CPU)
    backend.submit(plan([0, 1]))
    backend.submit(plan([1, 2, 3]))
    assert backend.result().image is not None
    with pytest.raises(CorruptSampleError, match=r"shard-000000\.tar: sample 000000000002 .* cannot be decoded"):
        backend.result()
    backend.close()


def _jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (number, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_batches_that_are_held_stay_as_they_are_and_others_are_reused(raw_shards: Path) -> None:
    with PatchLoader(raw_shards, global_batch_size=5, device="cpu", backend="cpu") as loader:
        held = [(batch, batch.patches.clone()) for _ in range(3) for batch in loader]
        for batch, copy in held:
            assert torch.equal(batch.patches, copy)
        del held, batch
        addresses = {batch.patches.data_ptr() for _ in range(5) for batch in loader}
    assert len(addresses) <= 5  # prefetch, and one that is built, looked at, and left over each


def test_closing_ends_the_threads_and_drops_the_plans(photo_shards: Path, no_leaks: None) -> None:
    dataset, before = open_dataset(photo_shards), threading.active_count()
    backend = ShardBackend(dataset, spec(dataset), device=CPU, threads=2)
    assert threading.active_count() == before  # none before the first plan: a fork here loses nothing
    for _ in range(3):
        backend.submit(plan([0, 1, 2]))
    backend.close()
    assert threading.active_count() == before
