"""Names of splits in file names and folders, by the hub's rules.

A keyword counts where delimiters stand around it: dashes, underscores, dots, spaces, digits. Upper and lower case are
alike. `train` + `training` are one split, and so are the other rows of `SPLIT_KEYWORDS`.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence

from selfie_data.sources.readers.file_names import SPLIT_KEYWORDS, printable

ALL = "all"  # `--split all`: the hub's own word for every split

_DELIMITERS = r"[-._ 0-9]"
_ORDINARY = ("latest",)  # a word of names that holds a keyword by chance
# A keyword inside a word: NameTrain, testset, but not "value" or "device" for the short ones.
_INSIDE = re.compile(r"(?i:train|test|valid)|(?<=[a-z])(Val|Dev|Eval)(?![a-z])")


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


def rows_left_out(value: str) -> str:
    """Returns what rows are called that are of another split."""
    return f"rows of the split {printable(value)}" if value else "rows of no split"


def no_such_split(where: str, split: str, found: Counter[str]) -> str:
    """Returns the error for rows none of which are of a split; `found` counts those of each."""
    there = ", ".join(f"{printable(name) or 'none'} ({count:,})" for name, count in found.most_common(8))
    return f"no row of {where} is of the split {split}; its column split says {there}: --split NAME picks one"
