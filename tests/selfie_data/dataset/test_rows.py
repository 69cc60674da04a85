"""Rows of a shard: what is written is read, damage is noticed, and what is held of many shards is what is there."""

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfie_data.dataset import opened
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pages import Shard
from selfie_data.dataset.rows import (
    ROW,
    Quarantined,
    Restarts,
    ShardRecord,
    decode_rows,
    encode_rows,
    load_rows,
    read_rows,
)
from selfie_data.dataset.table import SampleTable
from selfie_data.errors import DatasetError
from selfie_data.images.statistics import PixelSums

_TEXT = st.text(max_size=8)
_ROWS = st.lists(
    st.tuples(
        st.integers(-1, 9),
        st.integers(0, 2**40),
        st.integers(0, 2**33),
        st.integers(1, 9),
        st.integers(1, 9),
        st.integers(0, 2**32 - 1),
    ),
    max_size=6,
).map(lambda rows: np.array(rows, ROW))
_COUNTS = st.dictionaries(st.integers(0, 9).map(str), st.integers(1, 9), max_size=3)
_RECORDS = st.builds(
    ShardRecord,
    number=st.integers(0, 10**7),
    bytes=st.integers(0, 2**40),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    index_sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    sums=st.none() | st.just(PixelSums(3, (1, 2, 3), (4, 5, 2**70))),
    quarantined=st.lists(
        st.builds(Quarantined, key=st.integers(0, 10**12 - 1).map("{:012d}".format), name=_TEXT, reason=_TEXT),
        max_size=3,
    ).map(tuple),
    rows=_ROWS,
    decoders=st.dictionaries(_TEXT, _TEXT, max_size=2),
    restarts=st.none() | st.builds(Restarts, intervals=_COUNTS, reasons=_COUNTS),
    notices=st.lists(st.tuples(_TEXT, _TEXT), max_size=3).map(tuple),
)


def shard_of(record: ShardRecord) -> Shard:
    return Shard(
        number=record.number,
        samples=record.samples,
        first=0,
        quarantined=len(record.quarantined),
        generation=0,
        bytes=record.bytes,
        sha256=record.sha256,
        rows_sha256=hashlib.sha256(encode_rows(record)).hexdigest(),
    )


@settings(deadline=None)
@given(record=_RECORDS)
def test_decoding_undoes_encoding(record: ShardRecord) -> None:
    found = decode_rows(encode_rows(record))
    for field in fields(ShardRecord):
        expected, got = getattr(record, field.name), getattr(found, field.name)
        assert np.array_equal(expected, got) if field.name == "rows" else expected == got, field.name
    assert encode_rows(found) == encode_rows(record)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=_RECORDS, data=st.data())
def test_any_damage_is_one_line(tmp_path: Path, record: ShardRecord, data: st.DataObject) -> None:
    shard, content = shard_of(record), bytearray(encode_rows(record))
    file = tmp_path / shard.rows_name
    file.write_bytes(content)
    assert read_rows(tmp_path, shard).number == record.number
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"shard-\d+\.rows: changed") as error:
        read_rows(tmp_path, shard)
    assert "\n" not in str(error.value)
    load_rows(file)  # of a build that goes on: what is no rows file is none


def test_rows_of_another_shard_are_refused(tmp_path: Path) -> None:
    record = replace(decode_rows(encode_rows(_example())), number=4)
    shard = shard_of(record)
    (tmp_path / shard.rows_name).write_bytes(encode_rows(record))
    for name in ("samples", "quarantined", "bytes"):
        with pytest.raises(DatasetError, match="of another shard than the page says"):
            read_rows(tmp_path, replace(shard, **{name: 7}))
    (tmp_path / shard.rows_name).unlink()
    with pytest.raises(DatasetError, match="missing"):
        read_rows(tmp_path, shard)
    assert load_rows(tmp_path / shard.rows_name) is None


def test_what_is_no_rows_file_says_what_is_wrong() -> None:
    line, _, rows = encode_rows(_example()).partition(b"\n")
    for bad, match in (
        (b"", "Expecting value"),
        (b"{}\n", "not the first line"),
        (line + b"\n" + rows[:-1], "not those that its first line is of"),
        (line.replace(b'"samples": 2', b'"samples": 3') + b"\n" + rows, "counts other samples or classes"),
        (line.replace(b'"1": 1}', b'"1": 2}') + b"\n" + rows, "counts other samples or classes"),
    ):
        with pytest.raises(ValueError, match=match):
            decode_rows(bad)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(0, 40_000), data=st.data())
def test_rows_of_few_shards_at_a_time_are_those_of_all(
    raw_dataset: Path, monkeypatch: pytest.MonkeyPatch, limit: int, data: st.DataObject
) -> None:
    whole = open_dataset(raw_dataset).table
    monkeypatch.setattr(opened, "_ROW_BYTES", limit)
    dataset: Dataset = open_dataset(raw_dataset)
    for ids in data.draw(st.lists(st.lists(st.integers(0, 999), max_size=20), max_size=5)):
        some = np.array(ids, np.int64)
        got, expected = dataset.rows(some), whole.take(some)
        for column in fields(SampleTable):
            np.testing.assert_array_equal(getattr(got, column.name), getattr(expected, column.name))


def _example() -> ShardRecord:
    return ShardRecord(
        number=0,
        bytes=10_240,
        sha256="0" * 63 + "1",
        index_sha256="",
        sums=None,
        quarantined=(Quarantined(key="000000000001", name="a", reason="bad"),),
        rows=np.array([(1, 512, 3, 1, 1, 0), (-1, 1536, 3, 1, 1, 0)], ROW),
    )
