"""Columns by their names: upper and lower case alike, and a question where several could be meant."""

import pytest

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.naming.columns import LABELS, asked_for, only, spelled, split_column


def test_names_are_accepted_in_any_case_and_keep_their_spelling() -> None:
    assert spelled(["Image", " LABEL", "Cls", "labels_2"], LABELS) == [" LABEL", "Cls"]
    assert split_column(["id", "Split"], where="t") == "Split"
    assert split_column(["splits"], where="t") is None
    with pytest.raises(SourceError, match=r"t has several columns called split \(split, SPLIT\)"):
        split_column(["split", "SPLIT"], where="t")


def test_what_is_asked_for_is_taken_as_it_is_spelled_first() -> None:
    assert asked_for(["Age", "age"], "age", option="--x", where="t") == "age"
    assert asked_for(["Age"], "AGE", option="--x", where="t") == "Age"
    for wanted in ("AGE", "sex"):  # two are alike, none is
        with pytest.raises(OptionError, match=f"t has no column {wanted} for --x; its columns: Age, age"):
            asked_for(["Age", "age"], wanted, option="--x", where="t")


def test_several_are_asked_about() -> None:
    assert only([], what="label", option="--x", where="t") is None
    assert only(["a"], what="label", option="--x", where="t") == "a"
    with pytest.raises(OptionError, match=r"t has several label columns \(a, b\): --x NAME picks one"):
        only(["a", "b"], what="label", option="--x", where="t")


@pytest.mark.parametrize("name", ["subset", "Is Test", "is-training", "train/test", "Data set", "Usage", "SPLIT_NAME"])
def test_likely_splits_are_asked_about_however_they_are_spelled(name: str) -> None:
    with pytest.raises(OptionError, match=f"does the column {name} tell training from test data"):
        split_column(["path", name, "label"], where="t")
    assert split_column(["path", name, "label"], where="t", every=True) is None
    assert split_column(["path", name, "Split"], where="t") == "Split"
