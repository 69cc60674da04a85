"""The pixel store gives what the reference gives from the shards, to the bit, whatever is asked for.

The GPU's backend is held to it in `test_gpu_backend.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.cpu_store import StoreBackend
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.errors import DatasetError
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import assert_same_stream


@pytest.fixture(scope="module")
def raw_store(raw_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "raw.zarr"
    export_store(open_dataset(raw_shards), path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"masking": "zero", "whole_image": True},
        {"whole_image": True, "context": 3, "target": 5},
        {"patch_size": 4, "dtype": "bfloat16", "masking": "zero"},
        {"patch_size": 16, "dtype": "float16"},
        {"dtype": "float32", "whole_image": True},
        {"dtype": "float32", "masking": "zero", "whole_image": True, "augment": "none"},
        {"dtype": "float16", "masking": "zero", "whole_image": True},
        {"dtype": "bfloat16", "whole_image": True, "evaluation": True},
        {"dtype": "float32", "patch_size": 4, "masking": "zero", "whole_image": True},
        {"dtype": "float32", "patch_size": 16},
        {"patch_size": 2, "whole_image": True},
        {"augment": "none"},
        {"augment": Augmentation(flip=True, crop_area=(0.64, 1.0)), "whole_image": True},
        {"evaluation": True, "global_batch_size": 20},
        {"rank": 1, "world_size": 3, "shuffle": 1, "subset": range(5, 45)},
    ],
    ids=str,
)
def test_patches_equal_those_from_the_shards(raw_shards: Path, raw_store: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 16, "device": "cpu", "seed": 8, **options}
    with (
        PatchLoader(raw_shards, store=raw_store, **options) as ours,
        PatchLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"evaluation": True},
        {"dtype": "float32"},
        {"dtype": "float16"},
        {"dtype": "bfloat16", "evaluation": True},
        {"augment": "none"},
        {"augment": Augmentation(flip=True, padding=3), "dtype": "float32"},
        {"augment": Augmentation(flip=True, crop_area=(0.08, 1.0)), "dtype": "float32"},
    ],
    ids=str,
)
def test_images_equal_those_from_the_shards(raw_shards: Path, raw_store: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 20, "device": "cpu", "seed": 8, **options}
    with (
        ImageLoader(raw_shards, store=raw_store, **options) as ours,
        ImageLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


def test_photographs_as_evaluation_sees_them(photo_shards: Path, tmp_path: Path) -> None:
    export_store(open_dataset(photo_shards), tmp_path / "store.zarr")
    options = {"global_batch_size": 8, "device": "cpu", "evaluation": True}
    with (
        ImageLoader(photo_shards, store=tmp_path / "store.zarr", **options) as ours,
        ImageLoader(photo_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize(
    ("loader", "augment"),
    [
        (PatchLoader, "auto"),
        (PatchLoader, Augmentation(crop_area=(0.5, 1.0))),
        (ImageLoader, "finetune"),
        (ImageLoader, Augmentation(padding=4)),
    ],
    ids=str,
)
def test_random_crops_of_photographs_are_refused_at_once(
    photo_shards: Path, tmp_path: Path, loader: type[PatchLoader | ImageLoader], augment: str | Augmentation
) -> None:
    store = tmp_path / "store.zarr"
    export_store(open_dataset(photo_shards), store)
    with pytest.raises(ValueError, match=r"central views.* leave out store="):
        loader(photo_shards, global_batch_size=8, store=store, device="cpu", augment=augment)
    with loader(
        photo_shards, global_batch_size=8, store=store, device="cpu", augment=Augmentation(flip=True)
    ) as allowed:
        assert len(next(iter(allowed)).sample_id) == 8


def test_the_store_of_another_dataset_is_refused(raw_store: Path, make_dataset: MakeDataset) -> None:
    with pytest.raises(DatasetError, match="export the store again"):
        PatchLoader(make_dataset(seed=1), global_batch_size=8, store=raw_store, device="cpu")


def test_a_store_that_is_not_there_is_refused_before_anything_is_read(raw_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pixel store"):
        PatchLoader(raw_shards, global_batch_size=8, store=tmp_path / "x.zarr", device="cpu")


def test_a_damaged_store_is_a_typed_error(raw_shards: Path, tmp_path: Path) -> None:
    export_store(open_dataset(raw_shards), tmp_path / "store.zarr")
    chunk = next((tmp_path / "store.zarr" / "images" / "c").rglob("0"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    data = bytearray(chunk.read_bytes())
    data[1000] ^= 1
    chunk.write_bytes(data)
    with (
        PatchLoader(raw_shards, global_batch_size=8, store=tmp_path / "store.zarr", device="cpu") as loader,
        pytest.raises(DatasetError, match="checksum"),
    ):
        next(iter(loader))


def test_memory_is_used_again_once_nobody_holds_it_and_never_before(raw_shards: Path, raw_store: Path) -> None:
    unit = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    spec = OutputSpec(image_size=32, batch_size=4, patch_size=8, patch_count=16, **unit)
    backend = StoreBackend(open_dataset(raw_shards), spec, store=raw_store, device=torch.device("cpu"), prefetch=1)
    cells = np.broadcast_to(np.arange(16), (4, 16))

    def patches(first: int) -> torch.Tensor:
        backend.submit(BatchPlan(epoch=0, step=0, sample_id=np.arange(first, first + 4), position=cells))
        result = backend.result().patches
        assert result is not None
        return result

    places = set()
    for start in range(20):
        places.add(patches(start).data_ptr())  # dropped at once
    assert len(places) <= 2
    kept = [patches(start) for start in range(20)]
    assert len({tensor.data_ptr() for tensor in kept}) == 20
    views = [tensor[2, 3:5] for tensor in kept]
    copies = [view.clone() for view in views]
    del kept
    for start in range(20):
        patches(30 - start)
    assert all(torch.equal(view, copy) for view, copy in zip(views, copies, strict=True))
    backend.close()
    backend.close()


@pytest.mark.usefixtures("no_leaks")
def test_nothing_is_left_behind(raw_shards: Path, raw_store: Path) -> None:
    for _ in range(3):
        with PatchLoader(raw_shards, global_batch_size=8, store=raw_store, device="cpu") as loader:
            for _ in loader:
                break
