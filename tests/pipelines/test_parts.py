"""What options become."""

from pathlib import Path

import numpy as np
import torch

from selfie_data.dataset.opened import open_dataset
from tests.pipelines.streams import images, patches


def test_normalisation_is_the_data_sets_own_or_the_given(raw_shards: Path) -> None:
    manifest = open_dataset(raw_shards).manifest
    own = images(raw_shards).normalisation
    assert np.allclose(own.scale, 1 / np.array(manifest.std))
    assert np.allclose(own.bias, -np.array(manifest.mean) / np.array(manifest.std))
    given = own._replace(bias=own.bias + 1)
    batches = zip(
        images(raw_shards, dtype="float32"), images(raw_shards, dtype="float32", normalisation=given), strict=True
    )
    for left, right in batches:
        assert torch.allclose(left.image + 1, right.image, atol=1e-5)
    pair = images(raw_shards, normalisation=(given.scale.tolist(), given.bias.tolist())).normalisation
    assert np.array_equal(pair.scale, given.scale)
    assert np.array_equal(pair.bias, given.bias)


def test_attributes(raw_shards: Path) -> None:
    loader = patches(raw_shards)
    assert loader.class_names == ("a", "b", "c", "d")
    assert loader.fingerprint == open_dataset(raw_shards).fingerprint
    assert (loader.grid.side, loader.steps, len(loader), loader.epoch) == (4, 3, 3, 0)
