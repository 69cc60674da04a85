"""The loaders on shards built from real images: batches equal what Pillow and NumPy make of the stored bytes."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import ImageLoader, PatchLoader
from pipelines.sampling.grid import patchify
from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.sources import open_source
from tests.twins.draws import flips, random_resized_crops

pytestmark = pytest.mark.real_data

SETS = {
    "cifar10": ("cifar10", "cifar-10-python-small.tar.gz", 32),
    "imagenet32": ("imagenet32", "imagenet32-pickles-small.tar.gz", 32),
    "imagenet": ("imagenet", "ILSVRC2012_img_train-small.tar", 224),
    "full resolution": ("tar", "imagenet-fullres-120.tar", 224),
}


@pytest.fixture(scope="module", params=SETS)
def dataset(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    kind, file, size = SETS[request.param]
    out = tmp_path_factory.mktemp("real") / "shards"
    build_shards(open_source(kind, real_data / file, limit=120), out, BuildOptions(size=size, samples_per_shard=50))
    return open_dataset(out)


def stored_image(dataset: Dataset, sample: int) -> Image.Image:
    """Read without anything of ours but the table."""
    table = dataset.table
    with dataset.shard_path(int(table.shard[sample])).open("rb") as shard:
        shard.seek(int(table.offset[sample]))
        payload = shard.read(int(table.length[sample]))
    if dataset.encoding == "raw":
        return Image.frombytes("RGB", (dataset.image_size, dataset.image_size), payload)
    return Image.open(io.BytesIO(payload)).convert("RGB")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_pretraining_patches(dataset: Dataset, backend: str) -> None:
    size = dataset.image_size
    with PatchLoader(dataset, global_batch_size=32, seed=3, device="cpu", backend=backend) as loader:
        batch = next(iter(loader))
        side = loader.grid.patch_size
    ids = batch.sample_id.numpy()
    mirrored = flips(3, 0, ids)
    heights, widths = dataset.table.height[ids], dataset.table.width[ids]
    windows = random_resized_crops(3, 0, ids, heights, widths, area=(0.2, 1.0))
    for row, sample in enumerate(ids):
        image = stored_image(dataset, sample)
        if size > 64:
            top, left, height, width = windows[row].tolist()
            image = image.crop((left, top, left + width, top + height))
            image = image.resize((size, height), Image.Resampling.BILINEAR).resize(
                (size, size), Image.Resampling.BILINEAR
            )
        pixels = np.asarray(image)[:, ::-1] if mirrored[row] else np.asarray(image)
        expected = patchify(pixels[None], side)[0][batch.position[row].numpy()]
        assert (batch.patches[row].numpy() == expected).all()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_an_evaluation_sees_every_image_once(dataset: Dataset, backend: str) -> None:
    with ImageLoader(dataset, global_batch_size=50, evaluation=True, device="cpu", backend=backend) as loader:
        batches = list(loader)
    ids, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("sample_id", "label"))
    assert ids[ids >= 0].tolist() == list(range(len(dataset)))
    assert (labels[ids >= 0].numpy() == dataset.table.label).all()
    assert (labels[ids < 0] == -1).all()
    images = torch.cat([batch.image for batch in batches])[ids >= 0].double()
    if dataset.image_size == 32:
        assert np.allclose(images.mean((0, 1, 2)), dataset.manifest.mean)
