"""Lists of ids: what is written is read, and anything else is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.id_lists import decode_ids, encode_ids, load_ids, parse_ids

IDS = st.lists(st.integers(0, 10**18 - 1), unique=True).map(sorted)


@given(ids=IDS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    data = encode_ids(np.array(ids, np.int64))
    assert decode_ids(data, 10**18).tolist() == ids
    assert parse_ids(f"{number}  # {number + 1}" for number in ids).tolist() == ids
    path = tmp_path_factory.getbasetemp() / "ids.npy"
    path.write_bytes(data)
    assert load_ids(path).tolist() == ids


@pytest.mark.parametrize(
    "ids",
    [np.array([0, 0]), np.array([2, 1]), np.array([-1, 0]), np.array([0, 10]), np.array([0.0]), np.array([[0, 1]])],
    ids=["twice", "falling", "negative", "beyond", "floats", "a table"],
)
def test_stored_ids_rise_and_are_of_the_dataset(tmp_path: Path, ids: np.ndarray) -> None:
    np.save(tmp_path / "ids.npy", ids)
    with pytest.raises(ValueError, match="must be int64 ids"):
        decode_ids((tmp_path / "ids.npy").read_bytes(), 10)


@pytest.mark.parametrize("text", ["-1", "1.0", "1_0", "one", "1 2", "9" * 19, "٣"])
def test_a_line_is_an_id(text: str) -> None:
    with pytest.raises(ValueError, match="is no id"):
        parse_ids(["3", text])


@pytest.mark.parametrize("values", [np.array([0.5]), np.array([[1]]), np.array(["1"]), np.array([1 << 63], np.uint64)])
def test_a_file_of_ids_holds_integers(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "ids.npy", values)
    with pytest.raises(ValueError, match=r"is no list of integers|is no id"):
        load_ids(tmp_path / "ids.npy")
