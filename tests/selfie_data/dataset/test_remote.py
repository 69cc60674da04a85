"""Datasets at URLs, by the commands: what is said of them is what is said of the same folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import read_payloads
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import CorruptSampleError, DatasetError
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from tests.servers.fault_proxy import Fault, FaultProxy


def upload(folder: Path, url: str) -> None:
    storage = storage_of(place_of(url))
    for found in LocalStorage(folder).list():
        storage.write(found.name, (folder / found.name).read_bytes())


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(params=["s3", "http"])
def served(request: pytest.FixtureRequest, jpeg_dataset: Path) -> Iterator[str]:
    if request.param == "s3":
        url: str = request.getfixturevalue("bucket")
        upload(jpeg_dataset, url)
        yield url
        return
    base, root = request.getfixturevalue("web")
    shutil.copytree(jpeg_dataset, root / "a set")
    yield f"{base}/a%20set"


def test_commands_say_the_same_of_a_url_as_of_the_folder(served: str, jpeg_dataset: Path, tmp_path: Path) -> None:
    for command in (("info", "--json"), ("stats", "--json"), ("info",)):
        assert run(command[0], served, *command[1:]) == run(command[0], jpeg_dataset, *command[1:])
    assert "sound, 96 samples in 3 shards, every image decoded" in run("verify", served, "--decode")
    for number, place in enumerate((served, jpeg_dataset)):
        run("export-store", place, tmp_path / f"{number}.zarr")
        run("preview", place, "-o", tmp_path / f"{number}.png", "--first", 30)
    assert _files(tmp_path / "0.zarr") == _files(tmp_path / "1.zarr")
    assert (tmp_path / "0.png").stat().st_size > 10_000


def test_subsets_are_written_to_the_bucket(bucket: str, jpeg_dataset: Path, tmp_path: Path) -> None:
    local = tmp_path / "dataset"
    shutil.copytree(jpeg_dataset, local)
    upload(local, bucket)
    for fractions in ("10,50", "20"):
        for place in (bucket, local):
            run("split", place, "--fractions", fractions, "--force")
        storage = storage_of(place_of(bucket))
        assert {found.name: storage.read(found.name) for found in storage.list()} == _files(local)
    assert (open_dataset(bucket).subset("train-20") == open_dataset(local).subset("train-20")).all()
    assert verify_dataset(place_of(bucket)) == []


def test_damage_in_a_bucket_is_found_as_in_a_folder(bucket: str, jpeg_dataset: Path, tmp_path: Path) -> None:
    local = tmp_path / "dataset"
    shutil.copytree(jpeg_dataset, local)
    upload(local, bucket)
    storages = (LocalStorage(local), storage_of(place_of(bucket)))
    names = ("shard-000000.tar", "shard-000001.idx", "samples.zarr/label/c/0")
    for storage in storages:
        for name in names:
            data = bytearray(storage.read(name))
            data[len(data) // 2] ^= 1
            storage.write(name, bytes(data))
        storage.delete(["shard-000002.tar"])
        storage.write("foreign", b"")
    found = [verify_dataset(place) for place in (local, place_of(bucket))]
    told = [[line.replace(str(local), "").replace(bucket, "") for line in lines] for lines in found]
    assert told[0][0].startswith("/foreign: not part of the dataset")
    assert told[0] == told[1]
    with pytest.raises(DatasetError, match=r"shard-000002.tar: cannot be read"):
        read_payloads(open_dataset(bucket), range(80, 96))


def test_a_truncated_shard_in_a_bucket_is_refused_when_it_is_read(bucket: str, jpeg_dataset: Path) -> None:
    upload(jpeg_dataset, bucket)
    storage = storage_of(place_of(bucket))
    storage.write("shard-000002.tar", storage.read("shard-000002.tar")[:-40_960])
    with pytest.raises(DatasetError, match=r"shard-000002.tar: cannot be read"):
        read_payloads(open_dataset(bucket), range(80, 96))


@pytest.mark.parametrize("name", ["manifest.json", "pages/", "shard-000000.rows"])
def test_a_byte_that_changes_on_the_way_is_noticed(
    bucket: str, jpeg_dataset: Path, proxy: FaultProxy, name: str
) -> None:
    upload(jpeg_dataset, bucket)
    proxy.faults = [Fault("corrupt", after=20, method="GET", within=name)]
    with pytest.raises(DatasetError, match=r"damaged|changed"):
        open_dataset(bucket).rows(np.array([0]))
    dataset = open_dataset(bucket)
    proxy.faults = [Fault("corrupt", after=200, method="GET", within="shard-000000.tar")]
    with pytest.raises(CorruptSampleError, match="the checksum does not match"):
        read_payloads(dataset, range(3))


def test_opening_reads_neither_shards_nor_their_rows(bucket: str, jpeg_dataset: Path, proxy: FaultProxy) -> None:
    upload(jpeg_dataset, bucket)
    proxy.reset_counts()
    dataset = open_dataset(bucket)
    assert proxy.requests["HEAD"] == 0
    assert proxy.requests["GET"] == 3  # manifest, index of the pages, page
    assert len(dataset.rows(np.arange(96))) == 96
    assert proxy.requests["GET"] == 3 + 3


def test_shards_at_a_url_have_no_path(bucket: str, jpeg_dataset: Path) -> None:
    upload(jpeg_dataset, bucket)
    with pytest.raises(DatasetError, match="is no folder of this machine"):
        open_dataset(bucket).shard_path(0)


def test_a_server_without_ranges_says_so(web: tuple[str, Path], jpeg_dataset: Path) -> None:
    url, root = web
    shutil.copytree(jpeg_dataset, root / "set")
    with pytest.raises(DatasetError, match="does not give ranges of bytes"):
        open_dataset(f"{url}/no-ranges/set")


def test_wrong_urls_are_wrong_usage(tmp_path: Path) -> None:
    for arguments in (("info", "s3://key:secret@bucket/x"), ("export-store", tmp_path, "s3://bucket/store")):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 2
        assert "secret" not in result.output


def _files(folder: Path) -> dict[str, bytes]:
    return {found.name: (folder / found.name).read_bytes() for found in LocalStorage(folder).list()}
