import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipelines.backends import shard_reader as reader_module
from pipelines.backends.shard_reader import ShardFiles, ShardReader
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.errors import CorruptSampleError, DatasetError
from tests.pipelines.conftest import MakeDataset, random_images


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return open_dataset(make_dataset())


def damage(dataset: Dataset, sample: int) -> None:
    """Flips one bit in the middle of a payload."""
    place = int(dataset.table.offset[sample]) + int(dataset.table.length[sample]) // 2
    with dataset.shard_path(int(dataset.table.shard[sample])).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def test_payloads_are_what_was_written_in_the_order_asked_for(dataset: Dataset) -> None:
    ids = np.array([49, 0, 17, 17, 33])
    payloads = ShardReader(dataset).read(ids)
    images = random_images(50)
    for row, sample in enumerate(ids):
        assert (payloads[row].reshape(32, 32, 3) == images[sample]).all()


def test_a_buffer_is_used_again_if_it_is_large_enough(dataset: Dataset) -> None:
    reader = ShardReader(dataset)
    first = reader.read(np.arange(10))
    again = reader.read(np.arange(5, 15), first.buffer)
    assert again.buffer is first.buffer
    assert (again[0].reshape(32, 32, 3) == random_images(50)[5]).all()
    assert reader.read(np.arange(50), first.buffer).buffer is not first.buffer


def test_no_ids_give_no_payloads(dataset: Dataset) -> None:
    assert len(ShardReader(dataset).read(np.empty(0, np.int64)).length) == 0


def test_a_flipped_bit_is_named_with_shard_offset_and_key(dataset: Dataset) -> None:
    damage(dataset, 20)
    with pytest.raises(CorruptSampleError, match=r"CRC32C is .* the sample table says .*exclude=") as error:
        ShardReader(dataset).read(np.arange(50))
    assert error.value.shard == "shard-000001.tar"
    assert error.value.offset == dataset.table.offset[20]
    assert error.value.key == "000000000020"
    copy = pickle.loads(pickle.dumps(error.value))  # noqa: S301 - our own error, as worker processes send it
    assert (str(copy), copy.key) == (str(error.value), error.value.key)


def test_first_checks_a_sample_once_always_each_time_never_not_at_all(dataset: Dataset) -> None:
    readers = {verify: ShardReader(dataset, verify=verify) for verify in ("first", "always", "never")}
    for reader in readers.values():
        reader.read(np.array([20]))
    damage(dataset, 20)
    readers["first"].read(np.array([20]))
    readers["never"].read(np.array([20]))
    with pytest.raises(CorruptSampleError):
        readers["always"].read(np.array([20]))


@pytest.mark.parametrize("verify", ["first", "never"])
def test_a_shard_cut_short_while_it_is_read_is_an_error_not_a_crash(dataset: Dataset, verify: str) -> None:
    reader = ShardReader(dataset, verify=verify)
    reader.read(np.array([0]))
    os.truncate(dataset.shard_path(0), int(dataset.table.offset[1]) + 100)
    with pytest.raises(CorruptSampleError, match="ends after 100 of 3072 bytes") as error:
        reader.read(np.array([0, 1]))
    assert error.value.key == "000000000001"


def test_a_shard_of_another_size_is_refused_when_it_is_opened(dataset: Dataset) -> None:
    with dataset.shard_path(2).open("ab") as file:
        file.write(b"\0")
    reader = ShardReader(dataset)
    reader.read(np.array([0]))
    with pytest.raises(DatasetError, match=r"shard-000002.tar: \d+ bytes long, the manifest says"):
        reader.read(np.array([49]))


def test_a_shard_that_goes_missing_is_a_typed_error(dataset: Dataset) -> None:
    dataset.shard_path(1).unlink()
    with pytest.raises(DatasetError, match=r"shard-000001.tar: the shard cannot be opened"):
        ShardReader(dataset).read(np.array([20]))


def test_reads_that_fail_or_come_in_pieces(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, reader = os.preadv, ShardReader(dataset)

    def piecewise(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return whole(descriptor, [buffers[0][:1000]], offset)

    monkeypatch.setattr(reader_module.os, "preadv", piecewise)
    assert (reader.read(np.array([3]))[0].reshape(32, 32, 3) == random_images(50)[3]).all()

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reader_module.os, "preadv", failing)
    with pytest.raises(DatasetError, match=r"shard-000000.tar: reading failed at offset .*Input/output error"):
        reader.read(np.array([3]))


@pytest.mark.usefixtures("no_leaks")
def test_few_shards_are_open_at_a_time_and_none_after_closing(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset(samples=40, shards=20))
    before = len(os.listdir("/proc/self/fd"))
    files = ShardFiles(dataset, limit=3)
    for shard in [*range(20), 19, 18, 0]:
        assert os.fstat(files.descriptor(shard)).st_size == dataset.manifest.shards[shard].bytes
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    files.close()
    files.close()
    with pytest.raises(ValueError, match="closed"):
        files.descriptor(0)


def test_a_forked_child_reads_on(dataset: Dataset, tmp_path: Path) -> None:
    reader = ShardReader(dataset)
    reader.read(np.array([0]))
    reader._files._lock.acquire()  # as a thread of the parent might have at the moment of the fork
    child = os.fork()
    if child == 0:
        try:
            payloads = reader.read(np.arange(50))
            (tmp_path / "child").write_bytes(payloads.buffer[: int(payloads.length.sum())].tobytes())
        finally:
            os._exit(0)
    reader._files._lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "child").read_bytes() == random_images(50).tobytes()
