"""Which samples a loader goes through: subsets by ids, by file, by name, and exclusions."""

from pathlib import Path

import numpy as np
import pytest

from selfie_data.errors import DatasetError
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import ids_of, patches


def test_subsets_by_ids_path_and_name_are_the_same_stream(make_dataset: MakeDataset, tmp_path: Path) -> None:
    shards = make_dataset()
    ids = np.array([40, 3, 7, 21, 30, 1, 2, 49])
    np.save(tmp_path / "ids.npy", ids)
    loaders = [patches(shards, batch=4, subset=subset) for subset in (ids, sorted(ids), str(tmp_path / "ids.npy"))]
    streams = [ids_of(loader) for loader in loaders]
    assert streams[0] == streams[1] == streams[2]
    assert sorted(streams[0]) == sorted(ids)
    assert len({loader.state_dict()["subset"] for loader in loaders}) == 1
    with pytest.raises(DatasetError, match="no subset 'train'"):
        patches(shards, subset="train")


def test_all_ids_are_the_same_as_none(raw_shards: Path) -> None:
    assert patches(raw_shards, subset=range(50)).state_dict() == patches(raw_shards).state_dict()
    assert patches(raw_shards, exclude=[]).state_dict() == patches(raw_shards).state_dict()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"garbage"])
def test_a_damaged_file_of_ids_is_a_typed_error(raw_shards: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ids.npy").write_bytes(content)
    with pytest.raises(DatasetError, match=r"ids\.npy"):
        patches(raw_shards, subset=tmp_path / "ids.npy")


def test_pickled_ids_are_not_loaded(raw_shards: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([{1: 2}], dtype=object))
    with pytest.raises(DatasetError, match="allow_pickle"):
        patches(raw_shards, subset=tmp_path / "ids.npy")


def test_excluded_ids_are_left_out_of_a_stream_of_its_own(raw_shards: Path) -> None:
    whole, without = patches(raw_shards), patches(raw_shards, exclude=[4, 20], batch=48)
    assert sorted(ids_of(without)) == sorted(set(range(50)) - {4, 20})
    assert whole.state_dict()["subset"] != without.state_dict()["subset"]
    assert ids_of(patches(raw_shards, exclude=[20, 4], batch=48)) == ids_of(
        patches(raw_shards, exclude=[4, 20], batch=48)
    )
    assert without.state_dict()["samples"] == 48


def test_excluded_ids_are_taken_out_of_the_subset_not_of_the_whole(raw_shards: Path) -> None:
    loader = patches(raw_shards, batch=8, subset=range(10, 20), exclude=[12, 19, 40])
    left = [10, 11, 13, 14, 15, 16, 17, 18]
    assert loader.state_dict() == patches(raw_shards, batch=8, subset=left).state_dict()
    assert sorted(ids_of(loader)) == left


def test_an_exclusion_record_that_is_not_there_is_refused_unless_it_is_to_be_begun(
    raw_shards: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "excluded.txt"
    with pytest.raises(ValueError, match=r"excluded\.txt.*there is no such file; on_error='record' begins one"):
        patches(raw_shards, exclude=missing)
    begun = patches(raw_shards, exclude=missing, on_error="record")
    assert begun.state_dict() == patches(raw_shards).state_dict()
