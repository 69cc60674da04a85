"""The pickle reader: equal to Python's own on data, and a wall to everything else."""

import gc
import io
import os
import pickle
import resource
import struct
import tracemalloc
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.errors import SourceError
from selfie_data.sources.readers.pickles import load_dict, load_pickle
from tests.selfie_data.sources.handmade import python2_batch, python2_names


def load(data: bytes, size: int | None = None) -> Any:
    return load_pickle(io.BytesIO(data), len(data) if size is None else size, label="batch")


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=_plain, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_is_read_as_pickle_reads_it(value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(4, 6),
        np.arange(24, dtype=">i4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.zeros((0, 3072), dtype=np.uint8),
        np.array([True, False]),
    ],
    ids=["uint8", "big-endian", "fortran", "empty", "bool"],
)
def test_arrays_are_read_at_every_protocol(array: np.ndarray, protocol: int) -> None:
    found = load(pickle.dumps({"data": array, "again": array, "one": array.dtype.type(1)}, protocol=protocol))
    np.testing.assert_array_equal(found["data"], array)
    assert found["data"].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert found["data"] is found["again"]
    assert found["one"] == 1


def test_a_python_2_pickle_is_read() -> None:
    pixels = np.arange(3 * 3072, dtype=np.uint8).reshape(3, 3072)
    data = python2_batch(pixels, [1, 9, 300])
    batch = load_dict(io.BytesIO(data), len(data), label="batch")
    np.testing.assert_array_equal(batch["data"], pixels)
    assert batch["labels"] == [1, 9, 300]
    assert batch["filenames"] == [b"0.png", b"1.png", b"2.png"]
    expected = pickle.loads(python2_batch(pixels, [1, 9, 300]), encoding="bytes")  # noqa: S301 - made above
    np.testing.assert_array_equal(expected[b"data"], pixels)
    assert load(python2_names(["cat", "dog"])) == {b"label_names": [b"cat", b"dog"]}


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        _Runs(os.system, "touch /tmp/selfie-was-here"),
        _Runs(eval, "1 + 1"),
        _Runs(bytearray, 1 << 40),
        _Runs(np.zeros, 1 << 40),
        OrderedDict(a=1),
        {1, 2},
        frozenset([1]),
        np.array([{}, None], dtype=object),
        np.zeros(2, dtype=[("a", "i4")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.dtype("O"),
        1 + 2j,
        {1: "integer key"},
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_everything_but_data_is_refused(value: Any, protocol: int) -> None:
    with pytest.raises(SourceError, match=r"refused|corrupt") as caught:
        load(pickle.dumps({"data": value}, protocol=protocol))
    assert "\n" not in str(caught.value)
    assert not os.path.exists("/tmp/selfie-was-here")


_ENCODE = b"c_codecs\nencode\n"
_HOSTILE = {
    "other codec": b"\x80\x02" + _ENCODE + b"X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "length of 2**60": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "negative length": b"\x80\x02T\xff\xff\xff\xffabc.",
    "bytes of a number": b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "memo never set": b"\x80\x02h\x05.",
    "huge number": b"\x80\x02\x8b" + struct.pack("<I", 1 << 20) + b"\x01" * (1 << 20) + b".",
    "long decimal": b"I" + b"9" * 100_000 + b"\n.",
    "call of a string": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "state of a list": b"\x80\x02](K\x01tb.",
    "persistent id": b"Pposix\n.",
    "instance": b"(iposix\nsystem\n.",
    "newobj": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "ndarray called": b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
    "mark as a value": b"\x80\x02(\x85.",
    "mark remembered": b"\x80\x02(q\x01.",
    "two results": b"\x80\x02NN.",
    "a name as the result": b"\x80\x02cnumpy\nndarray\n.",
    "empty stack": b"\x80\x02.",
    "append to a tuple": b"\x80\x02)Na.",
    "odd dict": b"\x80\x02}(Nu.",
    "nothing": b"",
    "text": b"hello, this is no pickle",
    "zeros": bytes(100),
    "python string": b"S'a' * 10**9\n.",
    "string that is code": b"S__import__('os').system('true')\n.",
    "dtype with an object": b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.",
    "void dtype": b"\x80\x02cnumpy\ndtype\nU\x05V9999K\x00K\x01\x87R.",
}


@pytest.mark.parametrize("data", _HOSTILE.values(), ids=_HOSTILE)
def test_hostile_and_corrupt_pickles_are_one_line(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"batch is a (corrupt pickle|pickle that is refused)") as caught:
        load(data)
    assert "\n" not in str(caught.value)


def test_a_list_within_itself_is_harmless() -> None:
    found = load(b"\x80\x02]q\x01h\x01a.")
    assert found[0] is found


def test_a_huge_memo_index_costs_nothing() -> None:
    assert load(b"\x80\x02Nr\xff\xff\xff\x7f.") is None


def test_nested_data_is_neither_hashed_nor_expanded() -> None:
    """2**60 leaves in 60 opcodes: harmless as data, endless as a key or as an index or item of an array."""
    laughs = b"N" + b"q\x01h\x01\x86" * 60
    assert type(load(b"\x80\x02" + laughs + b".")) is tuple
    for use in (b"\x80\x02}" + laughs + b"Ns.", b"\x80\x02(" + laughs + b"Nd."):
        with pytest.raises(SourceError, match="a dict has a key of type tuple"):
            load(use)
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    for use in (array + laughs + b"Ns.", array + b"K\x00" + laughs + b"s.", array + b"(K\x00" + laughs + b"u."):
        with pytest.raises(SourceError, match="corrupt"):
            load(b"\x80\x02" + use)
    with pytest.raises(SourceError, match=r"corrupt|refused"):
        load(b"\x80\x02" + array + b"(K\x01" + laughs + b"NNNtb.")


def test_numbers_made_over_and_over_are_refused() -> None:
    """A dtype may be 99,999 bytes wide, so that a few opcodes copy that much."""
    wide = b"cnumpy\ndtype\nU\x06S99999K\x00K\x01\x87R"
    again = b"h\x01h\x02h\x03\x86Ra"
    start = b"\x80\x02" + b"cnumpy.core.multiarray\nscalar\nq\x01" + wide + b"q\x02T" + struct.pack("<I", 99_999)
    with pytest.raises(SourceError, match="builds far more than the file holds"):
        load(start + b"a" * 99_999 + b"q\x03000]" + again * 100_000 + b".")


def test_a_shape_larger_than_its_bytes_is_refused() -> None:
    small = pickle.dumps(np.zeros((3, 5), np.uint8), protocol=2)
    assert b"K\x03K\x05\x86" in small
    with pytest.raises(SourceError, match="needs 75 bytes and has 15"):
        load(small.replace(b"K\x03K\x05\x86", b"K\x0fK\x05\x86"))


def test_a_batch_is_in_memory_once_and_leaves_no_garbage() -> None:
    data = pickle.dumps({"data": np.zeros((20_000, 3072), np.uint8)}, protocol=4)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        batch = load(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peak < 1.2 * batch["data"].nbytes
    assert gc.collect() == 0


def test_bytes_made_over_and_over_are_refused() -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    again = b"h\x02h\x01h\x03\x86R0"
    data = b"\x80\x02" + _ENCODE + b"q\x02" + text + b"q\x01X\x06\x00\x00\x00latin1q\x03000" + again * 100_000 + b"N."
    with pytest.raises(SourceError, match="builds far more than the file holds"):
        load(data)


def test_endless_objects_are_refused_in_bounded_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match="more than 4,000,000 steps"):
        load(b"\x80\x02(" + b"}" * 8_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 << 10  # KiB


def test_a_long_text_that_is_not_latin_1_is_refused() -> None:
    with pytest.raises(SourceError, match="not latin-1"):
        load(pickle.dumps("a" * 100_000 + "\U0001f600", protocol=2))


@pytest.fixture(scope="module")
def small_batch() -> bytes:
    return pickle.dumps({"data": np.arange(300, dtype=np.uint8).reshape(3, 100), "labels": [1, 2, 3]}, protocol=2)


def test_every_truncation_is_noticed(small_batch: bytes) -> None:
    for length in range(len(small_batch)):
        with pytest.raises(SourceError):
            load(small_batch[:length])
        with pytest.raises(SourceError):  # the archive says there is more than there is
            load(small_batch[:length], size=len(small_batch))


def _message_of(data: bytes) -> str:
    try:
        load(data)
    except SourceError as error:
        return str(error)
    return ""


@settings(max_examples=300)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_flipped_byte_is_data_or_an_error(small_batch: bytes, position: int, value: int) -> None:
    damaged = bytearray(small_batch)
    damaged[position % len(damaged)] = value
    assert "\n" not in _message_of(bytes(damaged))


@settings(max_examples=300)
@given(data=st.binary(max_size=60))
def test_random_bytes_are_data_or_an_error(data: bytes) -> None:
    assert "\n" not in _message_of(data)


def test_a_batch_must_be_a_dict() -> None:
    with pytest.raises(SourceError, match="holds a list, not the dict"):
        load_dict(io.BytesIO(b"]."), 2, label="batch")
