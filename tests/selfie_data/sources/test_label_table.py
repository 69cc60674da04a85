"""Tables of path,label as they are read; what a folder makes of them is in `test_folder`."""

from pathlib import Path

import pytest

from selfie_data.errors import SourceError
from selfie_data.sources.label_table import Line, read_table


def test_names_of_columns_are_found_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("class\tfile\n\ncat\t./a/1.jpg\n\tb.png\n")
    assert read_table(path) == [Line(3, "a/1.jpg", "cat"), Line(4, "b.png", "")]


def test_a_path_is_the_same_however_it_is_spelled(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,label\na//1.jpg,x\na/./2.jpg,y\n.//3.jpg,z\n")
    assert [line.path for line in read_table(path)] == ["a/1.jpg", "a/2.jpg", "3.jpg"]


def test_a_table_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="is no CSV or TSV in UTF-8, save it as such: "):
        read_table(path)
    with pytest.raises(SourceError, match="cannot read the table"):
        read_table(tmp_path / "nowhere.csv")
