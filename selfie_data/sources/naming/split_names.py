"""Names of splits in file names and folders, by the hub's rules.

A keyword counts where delimiters stand around it: dashes, underscores, dots, spaces, digits. Upper and lower case are
alike. `train` + `training` are one split, and so are the other rows of `SPLIT_KEYWORDS`.

Trees of images have no such rules. There `sides_of` finds what looks like training and test data side by side, by the
names of folders and files: in a folder, a tar, a table of paths alike. It tells test data from
a class `test_tube`.
"""

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from selfie_data.errors import OptionError
from selfie_data.sources.naming.file_names import SPLIT_KEYWORDS, printable, suffix

ALL = "all"  # `--split all`: the hub's own word for every split

_DELIMITERS = r"[-._ 0-9]"
_ORDINARY = ("latest",)  # a word of names that holds a keyword by chance
# A keyword inside a word: NameTrain, testset, but not "value" or "device" for the short ones.
_INSIDE = re.compile(r"(?i:train|test|valid|holdout|heldout)|(?<=[a-z])(Val|Dev|Eval)(?![a-z])")
_WORDS = {word: split for split, words in SPLIT_KEYWORDS.items() for word in words}
_WORDS |= dict.fromkeys(("hold[-_ ]?out", "held[-_ ]?out"), "test")
_WORDS |= dict.fromkeys(("unlabell?ed", "unsup(?:ervised)?"), "unlabelled")  # STL-10's third part; no class of its own
_WORDS = dict(sorted(_WORDS.items(), key=lambda item: -len(item[0])))  # that of `evaluation` is not `val`
_WORD = re.compile("|".join(f"({word})" for word in _WORDS), re.IGNORECASE)
_FILLER = (  # what may stand beside a keyword without making it something else
    r"([-_. \d]|set|split|data|sub|part|images?|imgs?|pictures?|photos?|pics?|files?|jpe?g|png|rgb|raw"
    r"|aug(mented|mentation)?|clean|noisy|small|large|big|full|mini|tiny|half|extra|all|orig(inal)?|resized?|crop(s|ped)?|hr|lr|public|private"
    r"|final|new|old|(un)?label{1,2}ed|batch|fold|(?-i:[A-D])(?![a-zA-Z]))*"
)
_SURE = re.compile(rf"{_FILLER}({'|'.join(_WORDS)}){_FILLER}", re.IGNORECASE)


@functools.lru_cache(1 << 10)
def canonical(name: str) -> str:
    """Returns train, val or test for their keywords, and any other name as it is."""
    return next((split for split, words in SPLIT_KEYWORDS.items() if name.strip().lower() in words), name.strip())


def is_keyword(name: str) -> bool:
    """Says whether a split's name is one of the keywords."""
    return canonical(name) in SPLIT_KEYWORDS


def same_split(name: str, other: str) -> bool:
    """Says whether two names mean one split: equal, or keywords of one."""
    return canonical(name) == canonical(other)


def splits_in(part: str) -> set[str]:
    """Returns the splits whose keywords stand between delimiters in the name of a file or folder."""
    return {canonical(word) for word in re.split(_DELIMITERS, part) if is_keyword(word)}


def splits_of(path: str) -> set[str]:
    """Returns the splits whose keywords stand in a path's folders or its file name."""
    return {split for part in path.split("/") for split in splits_in(part)}


def stands_in(name: str, path: str) -> bool:
    """Says whether a split's name, any at all, stands between delimiters in a path."""
    pattern = rf"(?:^|/|{_DELIMITERS}){re.escape(name)}(?:$|/|{_DELIMITERS})"
    return re.search(pattern, path, re.IGNORECASE) is not None


def undelimited(paths: Sequence[str]) -> list[str]:
    """Returns the words of paths that hold a keyword which no delimiter sets off, such as NameTrain, sorted."""
    words = {word for path in paths for word in re.split(rf"/|{_DELIMITERS}", path.removesuffix(".parquet"))}
    return sorted(
        word for word in words if _INSIDE.search(word) and not is_keyword(word) and word.lower() not in _ORDINARY
    )


def sides_of(paths: Iterable[str]) -> list[str]:
    """Returns names of folders or files, one a split, if the paths look like several splits side by side, else [].

    A name is sure of its split if it is a keyword with nothing beside it but `_FILLER`: train, val2017, trainA,
    test_images. Two names that differ in the keyword alone, such as cars_train and cars_test, are sure of each other.
    Other words beside a keyword, as in test_tube or train_winter, make a class or a split: the latter where another
    folder beside it is sure, and most there name splits.
    """
    names = [path.rpartition("/") for path in paths]
    folders = {folder for folder, _, _ in names}
    files = {re.sub(r"\d+", "", name.rpartition(".")[0] or name) for _, _, name in names if _WORD.search(name)}
    above = {
        "/".join(parts[:end]) for parts in (folder.split("/") for folder in folders) for end in range(len(parts) + 1)
    }
    return _sides(part.rpartition("/")[2] for part in above) or _sides_by_company(above) or _sides(files)


def _sides(names: Iterable[str]) -> list[str]:
    sure: dict[str, str] = {}
    alike: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(set(names)):
        if (word := _WORD.search(name)) is None:
            continue
        split = _split_of(word)
        if _SURE.fullmatch(name):
            sure.setdefault(split, name)
        rest = name[: word.start()] + "*" + name[word.end() :]
        alike[re.sub(r"[-_. \d]+", "", rest).lower()].setdefault(split, name)
    return next((list(found.values()) for found in (sure, *alike.values()) if len(found) > 1), [])


def _sides_by_company(folders: Iterable[str]) -> list[str]:
    beside: defaultdict[str, list[str]] = defaultdict(list)
    for folder in sorted(folders):
        parent, _, name = folder.rpartition("/")
        beside[parent].append(name)
    for names in beside.values():
        named = {name: split for name in names for split in splits_in(name)}
        sure = next((name for name in named if _SURE.fullmatch(name)), None)
        other = next((name for name, split in named.items() if sure is not None and split != named[sure]), None)
        if sure is not None and other is not None and 2 * len(named) >= len([name for name in names if name]):
            return sorted((sure, other))
    return []


def _split_of(word: re.Match[str]) -> str:
    assert word.lastindex is not None
    return list(_WORDS.values())[word.lastindex - 1]


def split_said(column: str, value: str) -> str:
    """Returns the split that a value of a split column says; of is_test and its like: test if true, else train."""
    words = splits_in(column)
    if len(words) != 1 or not column.strip().lower().startswith("is_"):
        return value.strip()
    (split,) = words
    if (said := value.strip().lower()) in ("1", "1.0", "true", "t", "yes"):
        return split
    return {"train": "test"}.get(split, "train") if said in ("0", "0.0", "false", "f", "no") else value.strip()


def named_split(name: str) -> str | None:
    """Returns the split that a folder's or a file's name is sure of, None if there is none."""
    word = _WORD.search(name)
    return _split_of(word) if word is not None and _SURE.fullmatch(name) else None


def refuse_other_split(name: str, split: str) -> None:
    """Refuses a file or folder, given by name, that is sure to be of another split than is asked for."""
    found = splits_in(name) if suffix(name) else {named_split(name) or ""}  # a folder must be sure
    found = {name for name in found if is_keyword(name)}
    if split != ALL and found and canonical(split) not in found and is_keyword(split):
        named = " or ".join(sorted(map(str, found)))
        raise OptionError(f"is {printable(name)} of {split}, as --split says, or of {named}? --split {named} reads it")


def rows_left_out(value: str) -> str:
    """Returns what rows are called that are of another split."""
    return f"rows of the split {printable(value)}" if value else "rows of no split"


def no_such_split(where: str, split: str, found: Counter[str]) -> str:
    """Returns the error for rows none of which are of a split; `found` counts those of each."""
    there = ", ".join(f"{printable(name) or 'none'} ({count:,})" for name, count in found.most_common(8))
    return f"no row of {where} is of the split {split}; its column split says {there}: --split NAME picks one"
