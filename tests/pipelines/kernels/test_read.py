"""The compiled reader and its checksum against the plain reader and google_crc32c."""

import os
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.backends.shard_reader import ShardReader
from pipelines.batch_plan import Verify
from pipelines.kernels.read import crc32c_portable, crc32c_sse, has_crc_instruction
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError, DatasetError
from tests.pipelines.conftest import MakeDataset


@given(data=st.binary(max_size=600), start=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_checksums_equal_the_library(data: bytes, start: int) -> None:
    array = np.frombuffer(b"x" * start + data + b"y", np.uint8)
    expected = google_crc32c.value(data)
    assert crc32c_portable(array, start, len(data)) == expected
    if has_crc_instruction():
        assert crc32c_sse(array, start, len(data)) == expected


@pytest.mark.parametrize("verify", ["first", "always", "never"])
@pytest.mark.parametrize("limit", [1, 512])
def test_payloads_equal_those_of_the_plain_reader(photo_shards: Path, verify: Verify, limit: int) -> None:
    dataset = open_dataset(photo_shards)
    ours, plain = ShardReader(dataset, verify=verify, compiled=True, limit=limit), ShardReader(dataset)
    buffer = None
    for seed in range(5):
        ids = np.random.default_rng(seed).integers(0, len(dataset), 1 + 9 * seed)
        got, expected = ours.read(ids, buffer), plain.read(ids)
        buffer = got.buffer
        for row in range(len(ids)):
            np.testing.assert_array_equal(got[row], expected[row])
    ours.close()
    ours.close()
    plain.close()


@pytest.mark.parametrize("damage", ["bit", "truncated"])
def test_damage_gives_the_plain_readers_error(make_dataset: MakeDataset, damage: str) -> None:
    dataset = open_dataset(make_dataset())
    path, sample = dataset.shard_path(1), int(np.flatnonzero(dataset.table.shard == 1)[3])
    ours, plain = ShardReader(dataset, compiled=True), ShardReader(dataset)
    everything = np.arange(len(dataset))
    table = dataset.table
    ours.read(everything[table.shard != 1])
    ours.read(everything[:1])
    for reader in (ours, plain):  # the shard is damaged while it is open
        reader.read(everything[table.shard == 1][:1])
    if damage == "bit":
        with path.open("r+b") as file:
            file.seek(int(table.offset[sample]) + 100)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    else:
        os.truncate(path, int(table.offset[sample]) + 10)
    messages = []
    for reader in (ours, plain):
        with pytest.raises(CorruptSampleError) as caught:
            reader.read(everything)
        messages.append(str(caught.value))
        reader.close()
    assert messages[0] == messages[1]
    assert "CRC32C" in messages[0] if damage == "bit" else "the shard ends after 10 of 3072 bytes" in messages[0]


def test_with_first_a_payload_is_checked_once(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset())
    ids, reader = np.arange(4), ShardReader(dataset, verify="first", compiled=True)
    reader.read(ids)
    with dataset.shard_path(0).open("r+b") as file:
        file.seek(int(dataset.table.offset[2]))
        file.write(b"\xff\x00\xff")
    reader.read(ids)  # checked before, and nobody asked to check again
    always = ShardReader(dataset, verify="always", compiled=True)
    with pytest.raises(CorruptSampleError, match="CRC32C"):
        always.read(ids)
    for one in (reader, always):
        one.close()


def test_a_missing_shard_is_an_error_of_the_dataset(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset())
    dataset.shard_path(2).unlink()
    reader = ShardReader(dataset, compiled=True)
    with pytest.raises(DatasetError, match="cannot be opened"):
        reader.read(np.arange(len(dataset)))
    reader.close()
