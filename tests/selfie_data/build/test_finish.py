"""The last step: shards without images have no tar, a dataset without any is an error."""

from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.build.plan import Plan
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, DatasetError
from tests.material import memory_source, picture


def test_a_shard_of_bad_images_only_has_no_tar(tmp_path: Path) -> None:
    plan = Plan(size=12, samples=12, samples_per_shard=4, seed=0)
    bad = set(plan.sources(np.arange(4, 8)).tolist())
    images = [b"bad" if n in bad else picture(32, 32, seed=n) for n in range(12)]
    options = BuildOptions(size=32, samples_per_shard=4)
    manifest = build_shards(memory_source(images), tmp_path / "out", options, workers=1)
    assert [shard.samples for shard in manifest.shards] == [4, 0, 4]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["shard-000000.tar", "shard-000002.tar"]
    dataset = open_dataset(tmp_path / "out")
    assert dataset.table.shard.tolist() == [0] * 4 + [2] * 4
    assert dataset.key(4) == "000000000008"
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_a_source_without_usable_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"none of 2 images can be used; the first, memory/00000.: not an image"):
        build_shards(memory_source([b"a", b"b"]), tmp_path / "bad", BuildOptions(size=32), workers=1)
    with pytest.raises(BuildError, match="the source memory holds no images"):
        build_shards(memory_source([]), tmp_path / "empty", BuildOptions(size=32), workers=1)
    for name in ("bad", "empty"):
        with pytest.raises(DatasetError, match="no finished dataset"):
            open_dataset(tmp_path / name)
