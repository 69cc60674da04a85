"""The pixel store: the pixels of the dataset, whole or not there, and damage is noticed."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from pipelines import ImageLoader
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pixel_store import export_store, load_store
from selfie_data.errors import BuildError, CorruptSampleError, DatasetError
from tests.pipelines.conftest import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_dataset(tmp_path / "shards", samples=23))


def _chunk(store: Path) -> Path:
    return store / "images/c/0/0/0/0"


def test_raw_pixels_come_back_in_order_of_id(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "selfie_data.dataset.pixel_store.CHUNK_BYTES", 5 * 32 * 32 * 3
    )  # 23 = 4 chunks of 5 and a part of one
    done: list[int] = []
    assert export_store(dataset, tmp_path / "s.zarr", workers=2, progress=done.append)
    store = load_store(tmp_path / "s.zarr", threads=2)
    assert sum(done) == 23
    assert store.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(store.labels, dataset.table.label)
    for sample, image in enumerate(store.images):
        path = dataset.shard_path(int(dataset.table.shard[sample]))
        offset = int(dataset.table.offset[sample])
        assert image.tobytes() == path.read_bytes()[offset : offset + 3072]
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")  # zarr itself reads the same
    np.testing.assert_array_equal(group["images"][:], store.images)
    np.testing.assert_array_equal(group["labels"][:], store.labels)
    assert group.attrs["class_names"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("shapes", [[(110, 140), (128, 110), (96, 96), (300, 97)], None], ids=["mixed", "all-96"])
def test_jpegs_are_stored_as_evaluation_sees_them(shapes: list[tuple[int, int]] | None, tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "shards", samples=8, size=96, encoding="jpeg", shapes=shapes)
    dataset = open_dataset(path)
    export_store(dataset, tmp_path / "s.zarr", workers=2)
    with ImageLoader(
        path, global_batch_size=8, backend="reference", device="cpu", augment="none", evaluation=True
    ) as loader:
        (batch,) = loader
    np.testing.assert_array_equal(load_store(tmp_path / "s.zarr").images, batch.image.numpy())


def test_the_same_dataset_is_left_alone_and_another_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    assert export_store(dataset, path)
    before = _chunk(path).stat().st_mtime_ns
    assert not export_store(dataset, path)
    assert _chunk(path).stat().st_mtime_ns == before
    other = open_dataset(write_dataset(tmp_path / "other", samples=9, seed=1))
    with pytest.raises(BuildError, match=r"holds the pixels of dataset .*, not of"):
        export_store(other, path)
    (tmp_path / "file").write_text("something else")
    with pytest.raises(BuildError, match="is no pixel store"):
        export_store(dataset, tmp_path / "file")


def test_an_interrupted_export_leaves_nothing_and_starts_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfie_data.dataset.pixel_store.CHUNK_BYTES", 5 * 32 * 32 * 3)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(dataset, tmp_path / "s.zarr", progress=stop)
    (tmp_path / ".s.zarr.partial" / "images").mkdir(parents=True)  # as a kill would leave it
    export_store(dataset, tmp_path / "s.zarr")
    assert len(load_store(tmp_path / "s.zarr").images) == 23
    assert not (tmp_path / ".s.zarr.partial").exists()


def test_a_damaged_shard_is_noticed_and_leaves_no_store(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.shard_path(1)
    data = bytearray(shard.read_bytes())
    data[int(dataset.table.offset[10]) + 5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptSampleError, match=r"shard-000001\.tar: sample 000000000010 .*checksum"):
        export_store(dataset, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptSampleError, match="checksum"):
        export_store(dataset, tmp_path / "s.zarr")


def test_a_damaged_store_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    export_store(dataset, path)
    whole = _chunk(path).read_bytes()
    for data, message in (
        (whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], "its checksum does not match"),
        (whole[:-1], "bytes where"),
        (b"", "0 bytes where"),
    ):
        _chunk(path).write_bytes(data)
        with pytest.raises(DatasetError, match=message):
            load_store(path)
    _chunk(path).unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        load_store(path)
    _chunk(path).write_bytes(whole)
    metadata = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(metadata.replace('"samples": 23', '"samples": 22'))
    with pytest.raises(DatasetError, match="the digest does not match"):
        load_store(path)
    (path / "zarr.json").write_text(metadata.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(DatasetError, match="schema 2 is newer"):
        load_store(path)
    (path / "zarr.json").write_text(metadata)
    array = (path / "images/zarr.json").read_text()
    (path / "images/zarr.json").write_text(array.replace("uint8", "int8"))
    with pytest.raises(DatasetError, match="must be uint8"):
        load_store(path)
    with pytest.raises(DatasetError, match="no pixel store"):
        load_store(tmp_path / "nothing")


def test_no_space_is_said_before(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "selfie_data.dataset.pixel_store.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(BuildError, match=r"0\.0 GB are free, the store needs"):
        export_store(dataset, tmp_path / "s.zarr")
