"""Names of images: kept compactly, told apart by suffix, shown on one line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.sources.naming.file_names import NameTable, is_image, is_junk, printable


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=8), max_size=10))
def test_a_name_table_gives_back_every_name(names: list[str]) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for name in names for character in name):
        return  # only the surrogates that stand for undecodable bytes occur in file names
    table = NameTable.of(names)
    assert table.to_list() == names
    assert len(table) == len(names)


def test_undecodable_file_names_survive() -> None:
    name = b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    assert NameTable.of([name])[0] == name
    assert printable(name) == "\\udcff\\udcfe.jpg"
    assert printable("a\nü") == "a\\nü"


@pytest.mark.parametrize("name", ["a/1.jpg", "1.JPEG", "x.y.png", "n1/n1_5.JPEG", "a.webp"])
def test_images_are_told_by_suffix(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize("name", ["a/1.txt", "jpg", "a.jpg/readme", ".jpg", "1.cls"])
def test_other_files_are_not(name: str) -> None:
    assert not is_image(name)


@pytest.mark.parametrize("name", ["._1.jpg", "a/._1.jpg", "a/.DS_Store", "__MACOSX/a/1.jpg", "Thumbs.db"])
def test_junk_is_known(name: str) -> None:
    assert is_junk(name)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=9), min_size=1, max_size=20), st.data())
def test_names_are_taken_in_any_order(names: list[str], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=30))
    taken = NameTable.of(names).take(np.array(indices, dtype=np.int64))
    assert taken.to_list() == [names[index] for index in indices]
