"""Splits in names: keywords between delimiters, and other words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.sources.naming.split_names import canonical, same_split, splits_in, splits_of, stands_in, undelimited

WORDS = {
    "train": ["train", "training"],
    "val": ["validation", "valid", "val", "dev"],
    "test": ["test", "testing", "eval", "evaluation"],
}
KEYWORDS = [(split, word) for split, words in WORDS.items() for word in words]


@pytest.mark.parametrize(("split", "word"), KEYWORDS)
@pytest.mark.parametrize(
    "name", ["{}.parquet", "my_{}_file.parquet", "{}1.parquet", "a-{}-00000-of-00002.parquet", "a {}.b", "7{}7.x", "{}"]
)
def test_keywords_count_between_delimiters(split: str, word: str, name: str) -> None:
    for spelling in (word, word.upper(), word.capitalize()):
        assert splits_in(name.format(spelling)) == {split}
        assert splits_of(f"sub/{name.format(spelling)}/x.parquet") == {split}
    assert canonical(word) == split
    assert same_split(word.upper(), split)


@given(st.sampled_from(KEYWORDS), st.sampled_from("abzTV"), st.sampled_from(["", "x"]))
def test_keywords_inside_words_do_not(keyword: tuple[str, str], before: str, after: str) -> None:
    assert splits_in(f"{before}{keyword[1]}{after}.parquet") <= ({"val"} if before + keyword[1] == "eval" else set())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("NameTrain.parquet", ["NameTrain"]),
        ("a/testset-0.parquet", ["testset"]),
        ("imagesDev.parquet", ["imagesDev"]),
        ("device_evaluate_value.parquet", []),
        ("latest/Latest.parquet", []),
        ("images-0.parquet", []),
    ],
)
def test_keywords_that_no_delimiter_sets_off_are_found(path: str, words: list[str]) -> None:
    assert undelimited([path]) == words


def test_any_name_between_delimiters() -> None:
    assert stands_in("extra", "digits/extra-00000-of-00001.parquet")
    assert stands_in("NameTrain", "nametrain_0.parquet")
    assert stands_in("a.b", "x/a.b/0.parquet")
    assert not stands_in("extra", "extras-0.parquet")
    assert not stands_in("a.b", "a-b.parquet")
