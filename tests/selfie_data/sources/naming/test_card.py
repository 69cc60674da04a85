"""`configs:` of README.md: what the hub documents is read, and nothing else."""

from pathlib import Path

import pytest

from selfie_data.errors import SourceError
from selfie_data.sources.naming.card import matches, read_card


def card(folder: Path, configs: str) -> Path:
    (folder / "README.md").write_text(
        f"---\nlicense: mit\n{configs}\ndataset_info:\n  x: 1\n---\n# A set\nconfigs: no\n"
    )
    return folder


def test_splits_as_documented(tmp_path: Path) -> None:
    text = """configs:
- config_name: default
  data_files:
  - split: train
    path:
    - "data/abc.parquet"
    - data/def-*
  - split: test
    path: "holdout/*.parquet"
"""
    (found,) = read_card(card(tmp_path, text))
    assert found.splits == {"train": ["data/abc.parquet", "data/def-*"], "test": ["holdout/*.parquet"]}
    assert (found.name, found.folder, found.default) == ("default", "", False)


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        ("main.parquet", {"train": ["main.parquet"]}),
        ("[a.parquet, b.parquet]", {"train": ["a.parquet", "b.parquet"]}),
        ("{train: a.parquet, test: [b.parquet]}", {"train": ["a.parquet"], "test": ["b.parquet"]}),
        ("[{split: 2020, path: a.parquet}]", {"2020": ["a.parquet"]}),
    ],
)
def test_other_forms_of_data_files(tmp_path: Path, files: str, splits: dict[str, list[str]]) -> None:
    (found,) = read_card(card(tmp_path, f"configs:\n  - config_name: a\n    data_files: {files}\n    sep: ';'"))
    assert found.splits == splits


def test_folders_and_a_default(tmp_path: Path) -> None:
    text = "configs:\n- config_name: a\n  data_dir: ./x/\n- config_name: b\n  data_dir: y\n  default: true"
    assert [(found.name, found.folder, found.splits, found.default) for found in read_card(card(tmp_path, text))] == [
        ("a", "x", None, False),
        ("b", "y", None, True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# configs:\n- config_name: a\n",
        "---\nl: mit\n---\nconfigs:\n- config_name: a\n",
        "---\nconfigs:\n- a\n",
    ],
)
def test_no_list_of_configurations(tmp_path: Path, text: str) -> None:
    assert read_card(tmp_path) == []
    (tmp_path / "README.md").write_text(text)
    assert read_card(tmp_path) == []


@pytest.mark.parametrize(
    "configs",
    [
        "configs: yes",
        "configs: {a: 1}",
        "configs:\n- data_files: x",
        "configs:\n- config_name: no\n  data_files: x",
        "configs:\n- config_name: a\n  data_files: 7",
        "configs:\n- config_name: a\n  data_files:\n  - {split: train, pattern: x}",
        "configs:\n- config_name: a\n  data_files:\n  - {split: train, path: x}\n  - y",
        "configs:\n- config_name: a\n  data_files:\n  - {split: t, path: x}\n  - {split: t, path: y}",
        "configs:\n- config_name: a\n- config_name: a",
        "configs:\n- config_name: &a x\n  data_files: *a",
        "configs:\n- &a {config_name: a}\n- {<<: *a}",
        "configs:\n- config_name: !!python/object/apply:os.getcwd []",
        "configs:\n- [unclosed",
        "configs:\n- " + "[" * 5000,
        "configs:\n- config_name: a\n  when: 2020-13-45",
        "configs:\n" + "- config_name: a\n" * 20_000,
    ],
    ids=range(16),
)
def test_lists_that_are_refused_in_one_line(tmp_path: Path, configs: str) -> None:
    with pytest.raises(SourceError, match=r"configs in README\.md is not what the hub documents") as caught:
        read_card(card(tmp_path, configs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("data/train-*", "data/train-00000-of-00001.parquet", True),
        ("data/*", "data/a/b.parquet", False),
        ("./data/**", "data/a/b.parquet", True),
        ("**/train.parquet", "train.parquet", True),
        ("**/train.parquet", "a/b/train.parquet", True),
        ("**", "a/b/train.parquet", True),
        ("data/?.parquet", "data/a.parquet", True),
        ("data/[ab]*.parquet", "data/c.parquet", False),
        ("data/a.parquet", "data/axparquet", False),
        ("../x.parquet", "x.parquet", False),
        ("*a" * 4000, "a" * 4000, True),
        ("**/" * 4000 + "x", "a/" * 100 + "x", True),
    ],
)
def test_globs(pattern: str, path: str, meant: bool) -> None:
    assert matches(pattern, path) == meant
