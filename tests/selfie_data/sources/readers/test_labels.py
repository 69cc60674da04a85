"""From names, integers and folders to one class index an image."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.sources.readers.labels import (
    classes_of_paths,
    label_by_code,
    label_by_integer,
    label_by_name,
    label_by_text,
)


def test_names_are_sorted_and_gaps_are_unlabelled() -> None:
    found = label_by_name(["dog", None, "cat", "dog"])
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [1, -1, 0, 1]
    assert found.labels.dtype == np.int32
    assert not found.labels.flags.writeable


def test_a_class_list_keeps_the_numbering_of_another_set() -> None:
    found = label_by_name(["dog"], ["cat", "emu", "dog"])  # one that grew by a class
    assert found.class_names == ("cat", "emu", "dog")
    assert found.labels.tolist() == [2]
    with pytest.raises(SourceError, match="the class 'fox' is not in the list of 1 classes to use"):
        label_by_name(["fox"], ["cat"])


def test_codes_are_mapped_through_names_that_are_not_sorted() -> None:
    found = label_by_code(np.array([0, 1, 2, -1]), ["truck", "airplane", "cat"])
    assert found.class_names == ("airplane", "cat", "truck")
    assert found.labels.tolist() == [2, 0, 1, -1]


def test_classes_without_images_are_kept_and_may_be_missing_from_the_list() -> None:
    assert label_by_code(np.array([1]), ["a", "b", "c"]).class_names == ("a", "b", "c")
    assert label_by_code(np.array([1]), ["a", "b", "c"], ["b"]).labels.tolist() == [0]


def test_a_code_beyond_the_names_and_names_that_stand_twice_are_refused() -> None:
    with pytest.raises(SourceError, match="a label is 3, but there are only 2 class names"):
        label_by_code(np.array([3]), ["a", "b"])
    with pytest.raises(SourceError, match="the class name 'a' stands twice"):
        label_by_code(np.array([0]), ["a", "a"])
    with pytest.raises(SourceError, match="the class name 'a' stands twice"):
        label_by_code(np.array([0]), ["a"], ["a", "a"])


def test_nothing_labelled_has_no_classes() -> None:
    assert label_by_name([None, None]) == ((), pytest.approx([-1, -1]))
    assert label_by_name([None], ["cat"]).class_names == ("cat",)


@given(st.lists(st.integers(-1, 5000), min_size=1, max_size=30))
def test_integers_sort_as_numbers(values: list[int]) -> None:
    found = label_by_integer(np.array(values))
    names = [None if label < 0 else int(found.class_names[label]) for label in found.labels]
    assert names == [None if value < 0 else value for value in values]
    assert list(found.class_names) == sorted(found.class_names)
    assert [int(name) for name in found.class_names] == sorted({value for value in values if value >= 0})


def test_integers_find_their_names_in_a_list_of_other_width() -> None:
    assert label_by_integer(np.array([7, 2]), classes=["001", "002", "007"]).labels.tolist() == [2, 1]
    with pytest.raises(SourceError, match="the class '9' is not in the list"):
        label_by_integer(np.array([9]), classes=["1"])


def test_texts_are_numbers_only_if_all_are() -> None:
    assert label_by_text(["10", "2", "", None]).class_names == ("02", "10")
    assert label_by_text(["10", "cat"]).class_names == ("10", "cat")
    assert label_by_text([" cat ", "tench, Tinca tinca"]).class_names == ("cat", "tench, Tinca tinca")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", "the fraction '0.5'"),
        ("1e3", "the fraction '1e3'"),
        ("nan", "is the label 'nan' a class or none"),
        ("cat|dog", "several labels"),
        ("cat;dog", "several labels"),
        ("[0, 1]", "several labels"),
        ("0 1 1", "several labels"),
        ("3,5", "several labels"),
        ("1\n2", "several labels"),
    ],
)
def test_several_labels_and_fractions_are_refused_in_one_line(value: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        label_by_text([value, "cat"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (["cat/1.jpg", "dog/1.jpg"], ["cat", "dog"]),
        (["a/cat/1.jpg", "b/dog/1.jpg"], ["cat", "dog"]),
        (["n1/images/1.jpg", "n2/images/1.jpg"], ["n1", "n2"]),
        (["cat/1.jpg", "dog/1.jpg", "1.jpg"], ["cat", "dog", None]),
        (["1.jpg", "2.jpg"], [None, None]),
        (["all/1.jpg", "all/2.jpg"], [None, None]),
        (["a/b/1.jpg", "a/b/2.jpg"], [None, None]),
        (["train/cat/1.jpg", "test/cat/1.jpg"], ["train", "test"]),
        (["cat/1.jpg", "x/cat/2.jpg"], ["cat", "cat"]),
    ],
)
def test_folders_are_classes(paths: list[str], classes: list[str | None]) -> None:
    assert classes_of_paths(paths) == classes


def test_the_only_folder_is_a_class_on_request() -> None:
    assert classes_of_paths(["cat/1.jpg", "2.jpg"], keep_single=True) == ["cat", None]


def test_integers_below_zero_are_no_label_beside_names() -> None:
    assert label_by_text(["cat", "-1", " -7 ", "dog"]) == (("cat", "dog"), pytest.approx([0, -1, -1, 1]))
    assert label_by_text(["cat", "10"]).class_names == ("10", "cat")


@pytest.mark.parametrize("names", [("caf\u00e9", "cafe\u0301"), ("cat", "cat "), ("a  b", "a b"), ("a\u00a0b", "a b")])
def test_classes_that_look_the_same_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(SourceError, match="look the same: rename one") as caught:
        label_by_name(names)
    assert str(caught.value).isascii()
    label_by_name(["Cat", "cat", "m2", "m\u00b2"])


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/images/1.jpg", "dog/images/1.jpg", "emu/1.jpg"],
        ["cat/Images/1.jpg", "dog/Images/1.jpg", "cat/masks/1.jpg"],
        ["a/img/1.jpg", "b/img/1.jpg", "c/pics/1.jpg"],
    ],
)
def test_a_folder_of_images_inside_classes_is_asked_about(paths: list[str]) -> None:
    with pytest.raises(
        OptionError, match=r"of one class (images|Images|img), or is it a folder above\? --class-level says"
    ):
        classes_of_paths(paths)


@pytest.mark.parametrize("value", ["None", "NA", "n/a", "<NA>", "null", "-", "?"])
def test_a_label_that_reads_as_none_is_asked_about(value: str) -> None:
    with pytest.raises(SourceError, match=re.escape(f"is the label {value!r} a class or none? Leave it empty")):
        label_by_text(["cat", value, "dog"])
    assert label_by_text(["cat", value], [value, "cat"]).class_names == (value, "cat")
    assert label_by_text(["cat", f"{value}thing"]).class_names == tuple(sorted(["cat", f"{value}thing"]))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat/1.jpg", "dog/1.jpg", "cat/small/2.jpg"], ["cat/small: class small, inside cat"]),
        (["a/cat/1.jpg", "a/cat/x/y/2.jpg", "a/dog/1.jpg"], ["a/cat/x/y: class y, inside cat"]),
        (["a/1.jpg", "a/b/1.jpg", "a/b/c/1.jpg"], ["a/b/c: class c, inside b", "a/b: class b, inside a"]),
        (["cat/1.jpg", "dog/small/2.jpg"], []),
        (["cat/1.jpg", "catfish/2.jpg", "3.jpg"], []),
        (["cat/images/1.jpg", "dog/images/1.jpg"], []),
    ],
)
def test_a_class_inside_the_folder_of_another_is_told(names: list[str], told: list[str]) -> None:
    notices = Notices()
    classes_of_paths(names, notices)
    assert [example for notice in notices.summary() for example in notice.examples] == told


@pytest.mark.parametrize(
    ("names", "subtree", "level"),
    [
        (["images/1.jpg", "masks/1.png"], "images", 1),
        (["JPEGImages/1.jpg", "SegmentationClass/1.png"], "JPEGImages", 1),
        (["set/gt/1.jpg", "set/img/1.png"], "set/gt", 2),
        (["cat/1.jpg", "rgb/1.jpg", "depth/1.png"], "depth", 1),
        (["cat/images/1.jpg", "cat/masks/1.png", "2.jpg"], "cat/images", 2),
    ],
)
def test_pictures_and_their_masks_side_by_side_are_asked_about(names: list[str], subtree: str, level: int) -> None:
    with pytest.raises(
        OptionError, match=rf"--subtree {subtree} reads one of them, --class-level {level} takes"
    ) as told:
        classes_of_paths(names)
    assert "\n" not in str(told.value)
    assert None not in classes_of_paths([name for name in names if name != "2.jpg"], level=1)


def test_one_class_that_is_called_like_a_kind_of_files_is_told() -> None:
    notices = Notices()
    assert classes_of_paths(["cat/1.jpg", "images/2.jpg"], notices) == ["cat", "images"]
    assert notices.summary()[0].text == "classes that are called like a kind of files: 1 (images)"


@pytest.mark.parametrize("name", ["test", "Val", "validation", "train"])
def test_a_class_that_is_called_like_a_split_is_told(name: str) -> None:
    """A lone test folder beside the classes' may hold test images; two splits side by side are refused elsewhere."""
    notices = Notices()
    assert classes_of_paths(["cat/1.jpg", "dog/1.jpg", f"{name}/2.jpg"], notices) == ["cat", "dog", name]
    (found,) = notices.summary()
    assert found.text == f"classes that are called like a split (--subtree picks a part): 1 ({name})"


@pytest.mark.parametrize(("names", "deepest"), [(["cat/1.jpg", "dog/x/2.jpg"], 2), (["1.jpg"], 0)])
def test_a_class_level_that_no_image_has_is_refused(names: list[str], deepest: int) -> None:
    with pytest.raises(OptionError, match=rf"--class-level 3 is deeper .*: the deepest path has {deepest} folders"):
        classes_of_paths(names, level=3)
    assert classes_of_paths(["cat/1.jpg", "dog/x/2.jpg"], level=2) == [None, "x"]


@given(st.data())
def test_labels_keep_their_spelling_where_the_class_list_has_it(data: st.DataObject) -> None:
    """Also where 7 and 07 are two classes, and whatever part of the training labels a test set has."""
    names = data.draw(
        st.lists(st.sampled_from(["7", "07", "007", "1", "01", "10", "cat", "3"]), min_size=1, max_size=12)
    )
    train = label_by_text(names)
    part = data.draw(st.lists(st.sampled_from(range(len(names))), min_size=1, max_size=8))
    spelled = [train.class_names[train.labels[index]] for index in part]
    test = label_by_text([*spelled, "-1", None], train.class_names)
    assert test.class_names == train.class_names
    assert [test.class_names[code] for code in test.labels[:-2]] == spelled
    assert test.labels[-2:].tolist() == [-1, -1]


def test_a_number_that_fits_two_classes_is_refused() -> None:
    for label in (lambda: label_by_integer(np.array([7]), classes=["07", "3", "7"]),
                  lambda: label_by_text(["007"], ["07", "3", "7"])):  # fmt: skip
        with pytest.raises(SourceError, match="the label 7 is the class '07' or '7' of the list of classes to use"):
            label()
    assert label_by_integer(np.array([3]), classes=["07", "3", "7"]).labels.tolist() == [1]
