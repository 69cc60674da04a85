"""Which files are a split: the examples of the hub's documentation, and what could be read in two ways."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.naming.data_files import DataFiles, choose_files, hidden, missing_parts


def choose(
    root: Path, *files: str, split: str = "train", config: str | None = None, rows_tell: bool = False
) -> DataFiles:
    return choose_files(root, files, split=split, config=config, rows_tell=lambda _: rows_tell)


def sharded(name: str, count: int = 1) -> list[str]:
    return [f"{name}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["train.parquet", "test.parquet"], {"train": [0], "test": [1]}),
        (["a_train.parquet", "a_test.parquet"], {"train": [0], "test": [1], "testing": [1]}),
        ([*sharded("data/a-train", 2), *sharded("data/a-validation"), *sharded("data/a-test")],
         {"train": [0, 1], "val": [2], "dev": [2], "test": [3]}),
        ([*sharded("a-train", 2), *sharded("a-val")], {"train": [0, 1], "val": [2]}),
        (["data/train/x.parquet", "data/test/y.parquet"], {"train": [0], "test": [1]}),
        (["data/training.parquet", "data/eval.parquet", "data/valid.parquet"], {"train": [0], "test": [1], "val": [2]}),
        (["train_0.parquet", "train_1.parquet", "test_0.parquet"], {"train": [0, 1], "test": [2]}),
        (["Train/x.parquet", "TEST/x.parquet"], {"train": [0], "test": [1]}),
        ([*sharded("data/train"), *sharded("data/random", 2)], {"train": [0], "random": [1, 2]}),
        ([*sharded("digits/train"), *sharded("digits/extra")], {"train": [0], "extra": [1], "all": [0, 1]}),
        ([*sharded("data/train"), *sharded("data/train_small")], {"train": [0], "train_small": [1]}),
        (["NameTrain.parquet", "NameTest.parquet"], {"NameTrain": [0], "nametest": [1], "all": [0, 1]}),
        (["a.parquet", "b.parquet"], {"train": [0, 1], "a": [0]}),
        (["train/a/0.parquet", "train/b/0.parquet"], {"train": [0, 1]}),
        (["train.parquet", "retrained.parquet"], {"train": [0]}),
    ],
)  # fmt: skip
def test_splits_of_names(tmp_path: Path, files: list[str], splits: dict[str, list[int]]) -> None:
    for split, positions in splits.items():
        chosen = choose(tmp_path, *files, split=split)
        assert chosen.used == [files[position] for position in positions]
        left = [file for file in files if file not in chosen.used]
        assert chosen.left_out == dict.fromkeys(left, f"files that are not of the split {split}")


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (
            ["NameTrain.parquet", "NameTest.parquet"],
            "train",
            r"do NameTest, NameTrain name splits\?.* --split NameTrain",
        ),
        (["NameTrain.parquet", "NameTest.parquet"], "test", "do NameTest, NameTrain name splits.* --split NameTest"),
        (["testset/0.parquet"], "train", "do testset name splits"),
        (["train_test.parquet"], "train", r"is train_test.parquet of test or of train\?"),
        (["train/test-0.parquet", "train/train-0.parquet"], "train", r"is train/test-0.parquet of test or of train\?"),
        (["train_test_split/train.parquet"], "test", "--root may name the folder"),
        (["train.parquet"], "test", "holds no Parquet files of test; the splits there: train"),
        (["train.parquet"], "extra", "holds no Parquet files of extra; the splits there: train"),
        (["a.parquet"], "val", "the splits there: none"),
        ([*sharded("data/base"), *sharded("data/extra")], "train", "of train; the splits there: base, extra"),
        (["a/train.parquet", "b/train.parquet"], "train", r"several configurations \(a, b\).*--config NAME"),
        (["a/train/0.parquet", "b/train/0.parquet"], "train", r"several configurations \(a, b\)"),
        (["a/0.parquet", "b/0.parquet"], "train", r"several configurations \(a, b\)"),
        (["0.parquet", "b/0.parquet"], "train", r"several configurations \(\., b\)"),
    ],
)
def test_what_could_be_read_in_two_ways_is_asked_for(
    tmp_path: Path, files: list[str], split: str, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        choose(tmp_path, *files, split=split)


def test_a_configuration_is_a_folder_or_a_pattern(tmp_path: Path) -> None:
    files = ["0.parquet", "a/train.parquet", "a/test.parquet", "b/x/train.parquet"]
    chosen = choose(tmp_path, *files, config="a")
    assert chosen.used == ["a/train.parquet"]
    assert chosen.left_out == {
        "0.parquet": "files outside of the configuration",
        "a/test.parquet": "files that are not of the split train",
        "b/x/train.parquet": "files outside of the configuration",
    }
    assert choose(tmp_path, *files, config="b/x").used == choose(tmp_path, *files, config="b").used == [files[3]]
    assert choose(tmp_path, *files, config=".").used == ["0.parquet"]
    assert choose(tmp_path, "p0/0.parquet", "p1/0.parquet", config="*").used == ["p0/0.parquet", "p1/0.parquet"]
    with pytest.raises(OptionError, match=r"no folder c holds Parquet files; the folders that do: \., a, b/x"):
        choose(tmp_path, *files, config="c")


def test_rows_tell_where_names_do_not(tmp_path: Path) -> None:
    assert choose(tmp_path, "a.parquet", split="test", rows_tell=True).used == ["a.parquet"]
    assert choose(tmp_path, "NameTest.parquet", rows_tell=True).used == ["NameTest.parquet"]
    with pytest.raises(OptionError, match="the splits there: train"):
        choose(tmp_path, "train.parquet", split="test", rows_tell=True)


@given(st.permutations(["train", "validation", "test"]), st.sampled_from("-_. 0"), st.booleans(), st.integers(1, 3))
def test_no_file_is_of_two_splits_and_none_is_lost(order: list[str], mark: str, before: bool, parts: int) -> None:
    files = [
        f"{word}{mark}{part}x.parquet" if before else f"x{mark}{word}{mark}{part}.parquet"
        for word in order
        for part in range(parts)
    ]
    found = [choose(Path("nowhere"), *files, split=split).used for split in ("train", "val", "test")]
    assert sorted(file for used in found for file in used) == sorted(files)


def test_parts_that_are_missing_by_their_numbers() -> None:
    row = sharded("data/train", 12)
    assert missing_parts([*row[:3], *row[4:11], "a-1-of-x.parquet", "b.parquet", *sharded("c/test", 2)]) == [
        row[3],
        row[11],
    ]
    assert len(missing_parts(["x-0-of-9999999999999999999.parquet"])) == 99_999


@pytest.mark.parametrize(("path", "is_hidden"), [("a/.x.parquet", True), ("__a/x.parquet", True), ("a/__x.b", False)])
def test_hidden_files(path: str, is_hidden: bool) -> None:
    assert bool(hidden(path)) == is_hidden


CARD = """---
configs:
- config_name: big
  data_files:
  - {split: train, path: data/b*}
  - {split: validation, path: data/v.parquet}
- config_name: small
  data_files: [data/s-*.parquet, data/t.parquet]
- config_name: other
  data_dir: other
---
"""
FILES = ["data/b1.parquet", "data/s-1.parquet", "data/t.parquet", "data/v.parquet", "other/test/0.parquet"]


def test_the_card_comes_first(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    with pytest.raises(OptionError, match="lists the configurations big, small, other: --config picks one, none was"):
        choose(tmp_path, *FILES)
    with pytest.raises(OptionError, match="--config picks one, got --config data"):
        choose(tmp_path, *FILES, config="data")
    assert choose(tmp_path, *FILES, config="big").used == ["data/b1.parquet"]
    assert choose(tmp_path, *FILES, config="big").left_out == {
        "data/s-1.parquet": "files outside of the configuration",
        "data/t.parquet": "files outside of the configuration",
        "data/v.parquet": "files that are not of the split train",
        "other/test/0.parquet": "files outside of the configuration",
    }
    for split in ("val", "validation", "dev"):
        assert choose(tmp_path, *FILES, config="big", split=split).used == ["data/v.parquet"]
    assert choose(tmp_path, *FILES, config="big", split="all").used == ["data/b1.parquet", "data/v.parquet"]
    assert choose(tmp_path, *FILES, config="small").used == ["data/s-1.parquet", "data/t.parquet"]
    assert choose(tmp_path, *FILES, config="other", split="test").used == ["other/test/0.parquet"]
    with pytest.raises(OptionError, match=r"lists the splits train, validation in README.md: --split picks one, got x"):
        choose(tmp_path, *FILES, config="big", split="x")
    with pytest.raises(SourceError, match=r"README.md names Parquet files of train that are not there: data/t.parquet"):
        choose(tmp_path, *FILES[:2], config="small")


def test_a_card_whose_files_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    with pytest.raises(SourceError, match=r"README.md names Parquet files of train that are not there: data/b\*"):
        choose(tmp_path, "x.parquet", config="big")
    with pytest.raises(OptionError, match="no folder other holds Parquet files; the folders that do: "):
        choose(tmp_path, "x.parquet", config="other")
    with pytest.raises(OptionError, match="lists the splits train, validation"):
        choose(tmp_path, "x.parquet", config="big", split="x", rows_tell=True)
    assert choose(tmp_path, *FILES, config="big", split="x", rows_tell=True).used == [FILES[0], FILES[3]]


def test_the_default_of_the_card_is_taken_and_the_rest_said(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD.replace("- config_name: small", "- config_name: small\n  default: true"))
    chosen = choose(tmp_path, *FILES)
    assert chosen.used == ["data/s-1.parquet", "data/t.parquet"]
    assert set(chosen.left_out) == set(FILES) - set(chosen.used)
