"""Splits: exact counts, stratified, nested, the same bytes again, and damage is noticed."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.splits import SplitOptions, check_splits, split_ids, write_splits
from selfie_data.errors import BuildError, DatasetError
from selfie_data.sources import open_source


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    build_shards(open_source("synthetic", limit=230, size=8), tmp_path / "shards", BuildOptions(size=8), workers=1)
    return open_dataset(tmp_path / "shards")


def _counts(labels: NDArray[np.int32], ids: NDArray[np.int64], classes: int) -> list[int]:
    return np.bincount(labels[ids], minlength=classes).tolist()


def test_counts_are_the_papers() -> None:
    """8 % of CIFAR-10's 50,000 are 400 a class."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.int32), 5000))
    subsets = split_ids(labels, SplitOptions())
    assert {name: len(ids) for name, ids in subsets.items()} == {
        "train": 45_000,
        "validation": 5_000,
        "all-5": 2_500,
        "all-8": 4_000,
        "all-10": 5_000,
        "all-20": 10_000,
        "all-100": 50_000,
        "train-5": 2_250,
        "train-8": 3_600,
        "train-10": 4_500,
        "train-20": 9_000,
        "train-100": 45_000,
    }
    assert _counts(labels, subsets["all-8"], 10) == [400] * 10
    assert _counts(labels, subsets["train-8"], 10) == [360] * 10
    assert _counts(labels, subsets["validation"], 10) == [500] * 10


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    unlabelled=st.integers(0, 30),
    validation=st.sampled_from(["0", "10", "2.5", "90"]),
    labelled=st.sets(st.sampled_from(["0.5", "5", "8", "33.3", "100"])),
    seed=st.integers(0, 2**64 - 1),
)
def test_subsets_are_stratified_nested_and_disjoint(
    counts: list[int], unlabelled: int, validation: str, labelled: set[str], seed: int
) -> None:
    labels = np.repeat(np.arange(-1, len(counts), dtype=np.int32), [unlabelled, *counts])
    if not len(labels):
        return
    labels = np.random.default_rng(seed).permutation(labels)
    subsets = split_ids(labels, SplitOptions(validation=validation, labelled=tuple(labelled), seed=seed))
    for ids in subsets.values():
        assert (np.diff(ids) > 0).all()
    held_out = set(subsets["validation"].tolist())
    assert held_out | set(subsets["train"].tolist()) == set(range(len(labels)))
    assert not held_out & set(subsets["train"].tolist())
    assert not (labels[subsets["validation"]] < 0).any() or not any(counts)
    for family in ("train", "all"):
        names = sorted((n for n in subsets if n.startswith(f"{family}-")), key=lambda n: float(n.split("-")[1]))
        for smaller, larger in itertools.pairwise(names):
            assert set(subsets[smaller].tolist()) <= set(subsets[larger].tolist())
        for name in names:
            assert (labels[subsets[name]] >= 0).all()
            assert family == "all" or not held_out & set(subsets[name].tolist())
            for size, population in zip(_counts(labels, subsets[name], len(counts)), counts, strict=True):
                share = float(name.split("-")[1]) / 100
                assert bool(size) == bool(population)  # a class that is there is represented
                assert size <= max(1, share * population + 0.5)
                assert family == "train" or size >= share * population - 0.5
    for text in labelled if any(counts) else ():
        assert set(subsets[f"train-{text}"].tolist()) <= set(subsets[f"all-{text}"].tolist())


def test_without_labels_some_samples_are_held_out_all_the_same() -> None:
    subsets = split_ids(np.full(200, -1, dtype=np.int32), SplitOptions())
    assert {name: len(ids) for name, ids in subsets.items()} == {"train": 180, "validation": 20}


def test_a_seed_is_another_choice_and_classes_are_independent() -> None:
    labels = np.tile(np.arange(2, dtype=np.int32), 1000)
    first, second = (split_ids(labels, SplitOptions(seed=seed))["all-20"] for seed in (0, 1))
    assert 20 < len(np.intersect1d(first, second)) < 140  # 80 expected
    ranks = [first[labels[first] == label] // 2 for label in (0, 1)]
    assert 10 < len(np.intersect1d(*ranks)) < 80  # 40 expected: the classes' orders differ


def test_known_answer() -> None:
    labels = np.tile(np.arange(3, dtype=np.int32), 20)
    subsets = split_ids(labels, SplitOptions(seed=7))
    assert subsets["validation"].tolist() == [0, 16, 17, 39, 43, 50]
    assert subsets["train-10"].tolist() == [6, 20, 27, 40, 49, 53]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": "100"}, r"validation percentage must be in \[0, 100\), got 100"),
        ({"validation": "ten"}, "a percentage is a number such as 10 or 2.5, got 'ten'"),
        ({"labelled": ("0", "5")}, r"must be in \(0, 100\], got 0, 5"),
        ({"labelled": ("101",)}, r"must be in \(0, 100\], got 101"),
        ({"labelled": ("1/3",)}, "at most six decimals"),
        ({"seed": -1}, "a seed must be in"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitOptions(**options)  # type: ignore[arg-type]


def test_percentages_have_one_spelling() -> None:
    assert SplitOptions(validation="10.0%", labelled=("20", "5.00", "5", "2.50")) == SplitOptions(
        validation="10", labelled=("2.5", "5", "20")
    )


def test_stored_splits_are_found_by_name_and_verified(dataset: Dataset) -> None:
    assert check_splits(dataset.path) == []
    subsets = write_splits(dataset, SplitOptions())
    assert dataset.subset_names() == tuple(sorted(subsets))
    for name, ids in subsets.items():
        np.testing.assert_array_equal(dataset.subset(name), ids)
    assert check_splits(dataset.path) == []
    record = json.loads((dataset.path / "splits/splits.json").read_text())
    assert record["subsets"]["all-100"]["class_counts"] == [23] * 10
    assert record["dataset"] == dataset.fingerprint


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_the_same_options_give_the_same_bytes_and_others_are_refused(dataset: Dataset) -> None:
    write_splits(dataset, SplitOptions())
    first = _digests(dataset.path / "splits")
    write_splits(dataset, SplitOptions())
    assert _digests(dataset.path / "splits") == first
    with pytest.raises(BuildError, match=r"holds splits with seed 0, asked for 1; --force replaces them"):
        write_splits(dataset, SplitOptions(seed=1))
    with pytest.raises(BuildError, match="with validation 10, asked for 20"):
        write_splits(dataset, SplitOptions(validation="20"))
    assert _digests(dataset.path / "splits") == first
    write_splits(dataset, SplitOptions(labelled=("50",)), force=True)
    assert sorted(_digests(dataset.path / "splits")) == [
        "all-50.npy", "splits.json", "train-50.npy", "train.npy", "validation.npy",
    ]  # fmt: skip
    assert check_splits(dataset.path) == []


def test_damage_is_named(dataset: Dataset) -> None:
    write_splits(dataset, SplitOptions())
    directory = dataset.path / "splits"
    whole = (directory / "train.npy").read_bytes()
    (directory / "train.npy").write_bytes(whole[:-1] + b"\1")
    (directory / "all-5.npy").unlink()
    (directory / "mine.npy").write_bytes(whole)
    problems = check_splits(dataset.path)
    assert [problem.split(",")[0] for problem in problems] == [
        "splits/mine.npy: not listed in splits.json",
        "splits/train.npy: changed",
        "splits/all-5.npy: missing",
    ]
    with pytest.raises(DatasetError, match=r"train\.npy: changed"):
        dataset.subset("train")
    write_splits(dataset, SplitOptions())  # mends what it can make again
    assert check_splits(dataset.path) == []
    (directory / "splits.json").write_text("{}")
    assert check_splits(dataset.path)[0].startswith("splits/splits.json: damaged")
    with pytest.raises(DatasetError, match=r"splits\.json: damaged .*--force"):
        write_splits(dataset, SplitOptions())
    write_splits(dataset, SplitOptions(), force=True)
    record = (directory / "splits.json").read_text()
    (directory / "splits.json").write_text(record.replace('"seed": 0', '"seed": 5'))
    assert check_splits(dataset.path) == [
        "splits/splits.json: not what its options give; run `selfie-data split --force`"
    ]
    (directory / "splits.json").unlink()
    assert check_splits(dataset.path) == ["splits/splits.json: missing; run `selfie-data split` again"]
