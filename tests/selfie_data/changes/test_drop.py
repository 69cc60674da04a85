"""Samples that were dropped are nowhere; everything else is where it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipelines.sampling.subset import resolve_subset
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.upgrade import upgrade_dataset
from selfie_data.commands.info import describe
from selfie_data.commands.stats import measure
from selfie_data.dataset.manifest import NAME as MANIFEST
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, DatasetError
from tests.selfie_data.changes.folders import contents, small_dataset

DROPPED = np.array([31, 4, 17])


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures, split, without three of them."""
    out = small_dataset(tmp_path_factory.mktemp("shrunk") / "out", bad=[2, 30])
    write_splits(open_dataset(out), SplitOptions(validation="20", labelled=("50",)))
    drop_samples(out, DROPPED)
    return out


def test_nobody_goes_through_them(shrunk: Path, tmp_path: Path) -> None:
    dataset = open_dataset(shrunk)
    dropped, live = {4, 17, 31}, set(range(38)) - {4, 17, 31}
    assert (len(dataset), dataset.manifest.live, dataset.excluded.tolist()) == (38, 35, sorted(dropped))
    everything = resolve_subset(dataset, None)
    assert set(everything.sample_ids(np.arange(everything.samples)).tolist()) == live
    assert not set(resolve_subset(dataset, [4, 5, 6]).sample_ids(np.arange(2)).tolist()) & dropped
    assert set(resolve_subset(dataset, None, [0, 4]).sample_ids(np.arange(34)).tolist()) == live - {0}
    assert {*dataset.subset("train").tolist(), *dataset.subset("validation").tolist()} == live
    assert sum(dataset.manifest.class_counts.values()) == describe(dataset)["labelled"] == 35
    assert measure(dataset)["bytes"] == [192] * 5
    export_store(dataset, tmp_path / "store")
    store = zarr.open_group(tmp_path / "store", mode="r")
    black = np.flatnonzero(~np.asarray(store["images"]).any(axis=(1, 2, 3)))
    assert black.tolist() == sorted(dropped) == np.flatnonzero(np.asarray(store["labels"]) < 0).tolist()


def test_the_dataset_is_sound_and_opens_as_it_was(shrunk: Path) -> None:
    assert verify_dataset(shrunk, decode=True) == []
    dataset = open_dataset(shrunk)
    (before,) = dataset.manifest.lineage
    assert (before.samples, before.excluded, before.added) == (38, 0, {})
    assert dataset.manifest.parent == before.fingerprint != dataset.fingerprint
    was = open_dataset(shrunk, fingerprint=before.fingerprint)
    assert (was.fingerprint, len(was.excluded)) == (before.fingerprint, 0)
    assert len(was.subset("train")) + len(was.subset("validation")) == 38
    with pytest.raises(DatasetError, match="a time when it was 000000000000…; it is another dataset"):
        open_dataset(shrunk, fingerprint="0" * 64)


def test_splits_keep_their_sides(shrunk: Path, tmp_path: Path) -> None:
    whole = small_dataset(tmp_path / "whole", bad=[2, 30])
    subsets = write_splits(open_dataset(whole), SplitOptions(validation="20", labelled=("50",)))
    dataset = open_dataset(shrunk)
    for name, ids in subsets.items():
        assert dataset.subset(name).tolist() == [sample for sample in ids.tolist() if sample not in DROPPED], name
    write_splits(dataset, SplitOptions(validation="20", labelled=("50",)))  # the same again, of the child
    assert dataset.subset("train").tolist() == [i for i in subsets["train"].tolist() if i not in DROPPED]


def test_again_is_no_change(shrunk: Path) -> None:
    before = contents(shrunk)
    assert drop_samples(shrunk, DROPPED).excluded == 0
    assert contents(shrunk) == before


def test_a_dry_run_changes_nothing(shrunk: Path) -> None:
    before = contents(shrunk)
    told = drop_samples(shrunk, np.array([1, 4]), with_bytes=True, dry_run=True)
    assert (told.excluded, told.purged, told.shards, told.live) == (1, 2, 1, 34)
    assert contents(shrunk) == before


def test_what_cannot_be_dropped_is_one_line(shrunk: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="sample ids are 0 to 37, got 3 to 38"):
        drop_samples(shrunk, np.array([38, 3]))
    with pytest.raises(BuildError, match="no sample would be left"):
        drop_samples(shrunk, np.arange(38))
    with pytest.raises(DatasetError, match="no such dataset directory"):
        drop_samples(tmp_path / "nothing", np.array([1]))
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_record_of_exclusions_is_refused(tmp_path: Path) -> None:
    out = small_dataset(tmp_path / "out")
    drop_samples(out, np.array([3]))
    (file,) = (out / "excluded").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"excluded/.*: changed"):
        resolve_subset(open_dataset(out), None)
    assert any("excluded/" in problem for problem in verify_dataset(out))
    file.unlink()
    assert any("excluded/" in problem and "missing" in problem for problem in verify_dataset(out))


def test_a_dataset_of_schema_1_is_upgraded_first(earlier: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(earlier, tmp_path / "old"))
    before = contents(out)
    with pytest.raises(BuildError, match="is of schema 1, which cannot change; `selfie-data upgrade "):
        drop_samples(out, np.array([1]))
    assert contents(out) == before
    was = upgrade_dataset(out).fingerprint
    drop_samples(out, np.array([1]))
    assert (verify_dataset(out, decode=True), sorted(path.name for path in out.glob("manifest*"))) == ([], [MANIFEST])
    assert open_dataset(out, fingerprint=was).fingerprint == was
    drop_samples(out, np.array([1]), with_bytes=True)
    assert (verify_dataset(out, decode=True), open_dataset(out).manifest.live) == ([], 15)
