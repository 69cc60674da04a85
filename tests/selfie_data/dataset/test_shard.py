"""Shards as others read them: `tarfile`, `webdataset`, and DALI's reader with our index."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.dataset.names import index_name
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import read_payloads
from selfie_data.dataset.shard import ShardWriter, member_header


@pytest.mark.parametrize(("name", "size"), [("000000000000.raw", 3072), ("000000000123.jpg", 0), ("x.cls", 8**11 - 1)])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    assert member_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_names_and_sizes_that_a_header_cannot_hold_are_refused() -> None:
    for name, size in [("x" * 101, 0), ("x", 8**11)]:
        with pytest.raises(ValueError, match="at most 100 characters and 8 GiB"):
            member_header(name, size)


def test_an_archive_is_what_tarfile_writes(tmp_path: Path) -> None:
    members = {"000000000000.jpg": b"abc", "000000000000.cls": b"7", "000000000002.jpg": b"x" * 10_000, "e.cls": b""}
    with ShardWriter(tmp_path / "ours.tar") as shard:
        offsets = [shard.add(name, payload) for name, payload in members.items()]
    with tarfile.open(tmp_path / "theirs.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    data = (tmp_path / "ours.tar").read_bytes()
    assert data == (tmp_path / "theirs.tar").read_bytes()
    assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for offset, payload in zip(offsets, members.values(), strict=True):
        assert data[offset : offset + len(payload)] == payload


def test_a_shard_larger_than_the_buffer_is_written_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.tar"
    with ShardWriter(path) as shard:
        for number in range(3):
            shard.add(f"{number:012d}.raw", bytes(2 << 20))
        assert path.stat().st_size > 4 << 20
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves files to the collector
@pytest.mark.parametrize("fixture", ["raw_dataset", "jpeg_dataset", "unlabelled_dataset"])
def test_webdataset_reads_the_same_bytes(fixture: str, request: pytest.FixtureRequest) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    dataset = open_dataset(request.getfixturevalue(fixture))
    suffix = "raw" if dataset.encoding == "raw" else "jpg"
    urls = [str(dataset.path / shard.name) for shard in dataset.manifest.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [dataset.key(number) for number in range(len(dataset))]
    assert [sample[suffix] for sample in samples] == read_payloads(dataset, range(len(dataset)))
    labels = [int(sample["cls"]) if "cls" in sample else -1 for sample in samples]
    assert labels == dataset.table.label.tolist()


@pytest.mark.parametrize("fixture", ["raw_dataset", "jpeg_dataset", "unlabelled_dataset"])
def test_dali_reads_the_same_bytes_with_our_index(fixture: str, request: pytest.FixtureRequest) -> None:
    dali = pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    dataset = open_dataset(request.getfixturevalue(fixture))
    suffix = "raw" if dataset.encoding == "raw" else "jpg"
    paths = [str(dataset.path / shard.name) for shard in dataset.manifest.shards]
    indices = [str(dataset.path / index_name(shard.name)) for shard in dataset.manifest.shards]

    @dali.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def read() -> object:
        image, label = dali.fn.readers.webdataset(
            paths=paths, index_paths=indices, ext=[suffix, "cls"], missing_component_behavior="empty"
        )
        return image, label

    pipeline = read()
    pipeline.build()
    payloads, labels = [], []
    for _ in range(len(dataset)):
        image, label = pipeline.run()
        payloads.append(np.asarray(image.at(0)).tobytes())
        text = np.asarray(label.at(0)).tobytes()
        labels.append(int(text) if text else -1)
    assert payloads == read_payloads(dataset, range(len(dataset)))
    assert labels == dataset.table.label.tolist()
