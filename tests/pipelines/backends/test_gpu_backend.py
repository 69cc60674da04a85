"""The backend of a GPU, in Triton's interpreter: loaders give what the reference gives, to the bit; faults are told."""

import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines import ImageLoader, PatchLoader
from pipelines.backends import choose, gpu_shards
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.errors import CorruptSampleError, DatasetError, DeviceError
from tests.pipelines.conftest import MakeDataset, write_dataset
from tests.pipelines.streams import assert_same_stream

OPTIONS = {"global_batch_size": 3, "device": "cpu", "seed": 3}
SHAPES = [(20, 30), (24, 17), (16, 16), (40, 19), (17, 90)]


@pytest.fixture(scope="module", params=["raw", "jpeg", "png"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 images of a model of 16 px: raw ones of that size, encoded ones of several."""
    path = tmp_path_factory.mktemp(request.param) / "shards"
    shapes = None if request.param == "raw" else SHAPES
    return write_dataset(path, samples=7, shards=2, size=16, encoding=request.param, shapes=shapes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"masking": "zero", "whole_image": True, "dtype": "float32"},
        {"context": 1, "target": 2, "dtype": "bfloat16", "patch_size": 4},
        {"augment": Augmentation(flip=True, crop_area=(0.2, 1.0)), "dtype": "float16", "antialias": False},
        {"evaluation": True},
        {"rank": 1, "world_size": 3},
        {"decode": "cpu", "prefetch": 1},
        {"prefetch": 4, "threads": 2, "verify": "always"},
    ],
    ids=str,
)
def test_patches_equal_the_reference(shards: Path, options: dict[str, object]) -> None:
    options = {**OPTIONS, **options}
    with (
        PatchLoader(shards, backend="gpu", **options) as ours,
        PatchLoader(shards, backend="reference", **options) as reference,
    ):
        for _ in range(2):  # memory is used again
            assert_same_stream(ours, reference)


@pytest.mark.parametrize(
    "options", [{}, {"augment": Augmentation(padding=4), "dtype": "float32"}, {"evaluation": True}], ids=str
)
def test_images_equal_the_reference(shards: Path, options: dict[str, object]) -> None:
    options = {**OPTIONS, **options}
    with (
        ImageLoader(shards, backend="gpu", **options) as ours,
        ImageLoader(shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize(
    "options",
    [
        {"masking": "zero", "whole_image": True, "dtype": "float32"},
        {"augment": Augmentation(flip=True, crop_area=(0.3, 1.0)), "dtype": "bfloat16"},
        {"evaluation": True},
    ],
    ids=str,
)
def test_the_store_equals_the_shards(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    if open_dataset(shards).encoding != "raw":
        options = {**options, "augment": Augmentation(flip="evaluation" not in options)}
    monkeypatch.setitem(choose._CLASSES, "store", choose._STORE_ON_A_GPU)
    export_store(open_dataset(shards), tmp_path / "store.zarr")
    options = {**OPTIONS, **options}
    with (
        PatchLoader(shards, store=tmp_path / "store.zarr", **options) as ours,
        PatchLoader(shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


def test_windows_of_jpegs_with_markers_equal_the_reference(marked_shards: Path, cuts: list[int]) -> None:
    augment = Augmentation(flip=True, crop_area=(0.05, 0.5))
    options = {"global_batch_size": 5, "device": "cpu", "subset": range(5), "augment": augment}
    with (
        PatchLoader(marked_shards, backend="gpu", threads=1, **options) as ours,
        PatchLoader(marked_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)
    assert sum(size > 0 for size in cuts) >= 3


def test_a_decoder_that_decodes_other_pixels_ends_the_run(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very last bit of one pixel, on the way from the decoder to the kernels."""
    flat = gpu_shards.flat

    def faulty(images: object) -> torch.Tensor:
        pixels = flat(images).clone()
        pixels[100] ^= 1
        return pixels

    shards = make_dataset(samples=6, encoding="jpeg", size=16)
    monkeypatch.setattr(gpu_shards, "flat", faulty)
    match = r"^cpu decodes the first 3 images .* 0 are allowed.*backend='cpu', or with backend='dali-operators', and"
    with PatchLoader(shards, backend="gpu", **OPTIONS) as loader, pytest.raises(DeviceError, match=match) as error:
        next(iter(loader))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("verify", ["first", "never"])
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_damaged_sample_is_named(make_dataset: MakeDataset, encoding: str, verify: str) -> None:
    shards = make_dataset(samples=6, shards=1, encoding=encoding, size=16)
    dataset = open_dataset(shards)
    if encoding == "raw" and verify == "never":
        pytest.skip("no byte of a raw image is wrong by itself")
    with dataset.shard_path(0).open("r+b") as file:
        file.seek(int(dataset.table.offset[4]))
        file.write(b"\0" * 100)
    options = {**OPTIONS, "evaluation": True, "verify": verify}
    with ImageLoader(shards, backend="gpu", **options) as loader:
        batches = iter(loader)
        assert next(batches).sample_id.tolist() == [0, 1, 2]
        with pytest.raises(CorruptSampleError, match=r"exclude=\[4\]"):
            next(batches)


def test_an_image_of_another_size_than_the_table_says_is_refused(make_dataset: MakeDataset) -> None:
    """Else every image behind it in the batch would begin at the wrong byte."""
    shards = make_dataset(samples=3, shards=1, encoding="png", size=16, shapes=[(16, 24)])
    dataset = open_dataset(shards)
    height, width = (np.where(np.arange(3) == 1, side, 40 - side) for side in (24, 16))
    dataset = Dataset(path=shards, manifest=dataset.manifest, table=replace(dataset.table, height=height, width=width))
    match = r"sample 000000000001 at offset \d+: "
    with PatchLoader(dataset, backend="gpu", **OPTIONS) as loader, pytest.raises(CorruptSampleError, match=match):
        next(iter(loader))


def test_without_a_gpu_it_is_for_tests_only(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="the backend 'gpu' needs a GPU, got device 'cpu'; use 'cpu'"):
        PatchLoader(make_dataset(), backend="gpu", **OPTIONS)


def test_the_old_name_means_what_it_did(make_dataset: MakeDataset) -> None:
    from pipelines.backends.dali import DaliBackend

    for name in ("dali", "dali-operators"):
        with PatchLoader(make_dataset(samples=3, shards=1), backend=name, **OPTIONS) as loader:
            next(iter(loader))
            assert type(loader._under_way.backend) is DaliBackend


def test_closing_ends_its_threads_and_files(shards: Path, no_leaks: None) -> None:
    before = threading.active_count()
    loader = PatchLoader(shards, backend="gpu", threads=1, **OPTIONS)
    next(iter(loader))
    loader.close()
    loader.close()
    assert threading.active_count() == before


def test_no_plan_means_no_result(make_dataset: MakeDataset) -> None:
    with PatchLoader(make_dataset(encoding="jpeg", size=16), backend="gpu", **OPTIONS) as loader:
        next(iter(loader))
        backend = loader._under_way.backend
        assert backend is not None
        loader._under_way.drop()
        with pytest.raises(IndexError):
            backend.result()


def test_missing_files_are_told(make_dataset: MakeDataset) -> None:
    shards = make_dataset(samples=6, shards=2, encoding="jpeg", size=16)
    with PatchLoader(shards, backend="gpu", **OPTIONS) as loader:
        (shards / "shard-000000.tar").unlink()
        (shards / "shard-000001.tar").unlink()
        with pytest.raises(DatasetError, match="cannot be opened"):
            next(iter(loader))


def test_an_image_is_the_same_among_others(make_dataset: MakeDataset) -> None:
    """Nothing leaks from one image to the next, wherever it lies."""
    shards = make_dataset(samples=5, shards=1, encoding="jpeg", size=16, shapes=SHAPES)
    found: dict[int, torch.Tensor] = {}
    for ids in (np.arange(5), np.array([3, 0, 4, 1, 2])):
        with PatchLoader(shards, backend="gpu", subset=ids, **{**OPTIONS, "global_batch_size": 5}) as loader:
            batch = next(iter(loader))
            for sample, patches in zip(batch.sample_id, batch.patches, strict=True):
                assert torch.equal(found.setdefault(int(sample), patches), patches)


@pytest.mark.parametrize("backend", ["gpu", "cpu"])
@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_metadata_turn_no_image(tmp_path: Path, encoding: str, backend: str) -> None:
    """What is stored is upright: metadata that a build could not read stay in the file as they were."""

    def turned(pixels: NDArray[np.uint8]) -> bytes:
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(file, encoding, exif=exif)
        return file.getvalue()

    shards = write_dataset(tmp_path / "shards", samples=3, shards=1, size=16, encoding=encoding, encode_one=turned)
    with (
        PatchLoader(shards, backend=backend, **OPTIONS) as ours,
        PatchLoader(shards, backend="reference", **OPTIONS) as reference,
    ):
        assert_same_stream(ours, reference)
