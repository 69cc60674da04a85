"""Shards as others read them: `tarfile`, `webdataset`, and DALI's reader with our index."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.dataset import open_dataset
from selfie_data.payloads import read_payloads
from selfie_data.shard import ShardWriter, header, index_name


@pytest.mark.parametrize(("name", "size"), [("000000000000.raw", 3072), ("000000000123.jpg", 0), ("x.cls", 8**11 - 1)])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o444, 0
    assert header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_archive_and_index(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    payloads = {"000000000000": (b"abc", 7), "000000000002": (b"x" * 1000, -1), "000000000003": (b"", 12)}
    with path.open("wb") as file:
        writer = ShardWriter(file, "jpg")
        offsets = [writer.add(key, payload, label) for key, (payload, label) in payloads.items()]
        _, index = writer.finish()
    data = path.read_bytes()
    assert len(data) == writer.position
    assert len(data) % 10240 == 0
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert members == {
        "000000000000.jpg": b"abc",
        "000000000000.cls": b"7",
        "000000000002.jpg": b"x" * 1000,
        "000000000003.jpg": b"",
        "000000000003.cls": b"12",
    }
    lines = index.decode().splitlines()
    assert lines[0] == "v1.2 3"
    for line, offset, (key, (payload, _)) in zip(lines[1:], offsets, payloads.items(), strict=True):
        fields = line.split()
        assert fields[:4] == ["jpg", str(offset), str(len(payload)), f"{key}.jpg"]
        for start, size, name in zip(fields[1::4], fields[2::4], fields[3::4], strict=True):
            assert data[int(start) : int(start) + int(size)] == members[name]


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


def test_writer_streams_to_the_file() -> None:
    file = io.BytesIO()
    writer = ShardWriter(file, "raw")
    for number in range(3):
        writer.add(f"{number:012d}", bytes(2 << 20), 0)
    assert len(file.getvalue()) > 4 << 20  # before `finish`: a shard larger than memory can be written
