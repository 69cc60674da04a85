"""Which data files of a repository are one split of one configuration.

`configs:` in README.md says so where it is there. Else the names of files and folders do:

    data/NAME-00000-of-00002.parquet      split NAME, any name
    train/x.parquet, a-test_1.parquet     a keyword between delimiters, in folders or file names
    x.parquet                             train, where no name of the repository holds a keyword

A folder above the one that names the split is a configuration. What could be read in two ways is asked for, not
guessed: a keyword that no delimiter sets off, two splits in one path, several configurations.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.naming.card import Configuration, matches, read_card
from selfie_data.sources.naming.file_names import printable
from selfie_data.sources.naming.split_names import (
    ALL,
    canonical,
    is_keyword,
    same_split,
    splits_in,
    splits_of,
    stands_in,
    undelimited,
)
from selfie_data.storage.place import Place

_SHARDED = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*")


_NUMBERED = re.compile(r"(.*-)(\d+)(-of-)(\d+)([-.].*)")
_MOST_PARTS = 100_000


class DataFiles(NamedTuple):
    """The files of a split in the order they came in, and why each other one is not used."""

    used: list[str]
    left_out: dict[str, str]


def choose_files(
    root: Place, files: Sequence[str], *, split: str, config: str | None, rows_tell: Callable[[str], bool]
) -> DataFiles:
    """Chooses files.

    Args:
        root: the repository's folder.
        files: its data files, paths below the root.
        split: a keyword, any other name, or `all`.
        config: a configuration of README.md; or a folder below the root, or a pattern of folders that are one.
        rows_tell: says of a file whether its rows tell their split, so that files need no split of their own.

    Raises:
        OptionError: no such split or configuration, or one of several must be chosen.
        SourceError: README.md names files that are not there.
    """
    card = read_card(root)
    if card:
        chosen = _of_card(card, config, root.name)
        where = f"the configuration {printable(chosen.name)} of {root}"
        scope = _below(files, chosen.folder) if chosen.folder else {file: file for file in files}
    else:
        chosen = None
        where = str(root) if config is None else f"the folder {config} of {root}"
        scope = {file: file for file in files} if config is None else _below(files, config)
    if chosen is not None and chosen.splits is not None:
        patterns = [pattern for named in chosen.splits.values() for pattern in named]
        scope = {file: inner for file, inner in scope.items() if any(matches(name, inner) for name in patterns)}
        used = _by_card(where, chosen.splits, scope, split, rows_tell)
    else:
        used = _by_names(where, scope, split, rows_tell)
    left_out = dict.fromkeys(files, "files outside of the configuration")
    left_out |= dict.fromkeys(scope, f"files that are not of the split {printable(split)}")
    for file in used:
        del left_out[file]
    return DataFiles([file for file in files if file not in left_out], left_out)


def hidden(path: str) -> str:
    """Returns why the hub passes over a file by the names in its path, "" if it does not."""
    *folders, name = path.split("/")
    return "files that are hidden by their names" * (name[0] == "." or any(part.startswith("__") for part in folders))


def missing_parts(files: Sequence[str]) -> list[str]:
    """Returns the files that a numbered row lacks: of x-00000-of-00003 and x-00002-of-00003 the one between."""
    there = set(files)
    missing = []
    for before, digits, of, count, after in {
        (match[1], len(match[2]), match[3], match[4], match[5])
        for file in files
        if (match := _NUMBERED.fullmatch(file))
    }:
        row = [f"{before}{number:0{digits}d}{of}{count}{after}" for number in range(min(int(count), _MOST_PARTS))]
        missing += [file for file in row if file not in there]
    return sorted(missing)


def _of_card(card: list[Configuration], config: str | None, root: str) -> Configuration:
    names = [configuration.name for configuration in card]
    if config is not None:
        found = [configuration for configuration in card if configuration.name == config]
    else:
        found = card if len(card) == 1 else [configuration for configuration in card if configuration.default]
    if len(found) != 1:
        got = "none was chosen" if config is None else f"got --config {config}"
        raise OptionError(f"README.md of {root} lists the configurations {_list(names)}: --config picks one, {got}")
    return found[0]


def _by_card(
    where: str,
    splits: Mapping[str, list[str]],
    scope: Mapping[str, str],
    split: str,
    rows_tell: Callable[[str], bool],
) -> list[str]:
    names = [name for name in splits if split in (name, ALL)] or [name for name in splits if same_split(name, split)]
    if not names and scope and rows_tell(next(iter(scope))):
        names, split = list(splits), ALL
    if not names or (len(names) > 1 and split != ALL):
        raise OptionError(f"{where} lists the splits {_list(splits)} in README.md: --split picks one, got {split}")
    patterns = [pattern for name in names for pattern in splits[name]]
    used = [file for file, inner in scope.items() if any(matches(pattern, inner) for pattern in patterns)]
    plain = [pattern for pattern in patterns if not re.search(r"[*?\[]", pattern)]
    missing = [pattern for pattern in plain if not any(matches(pattern, inner) for inner in scope.values())]
    if missing or not used:
        raise SourceError(f"README.md names Parquet files of {split} that are not there: {_list(missing or patterns)}")
    return used


def _below(files: Iterable[str], pattern: str) -> dict[str, str]:
    """Returns the files in folders that `pattern` means, and their paths below these. "." is the root itself."""
    found = {}
    for file in files:
        folders = file.split("/")[:-1]
        prefixes = ["/".join(folders[:count]) for count in range(1, len(folders) + 1)] or ["."]
        prefix = next((prefix for prefix in prefixes if fnmatchcase(prefix, pattern.rstrip("/"))), None)
        if prefix is not None:
            found[file] = file if prefix == "." else file[len(prefix) + 1 :]
    if not found:
        there = _list(sorted({file.rpartition("/")[0] or "." for file in files}))
        raise OptionError(f"no folder {printable(pattern)} holds Parquet files; the folders that do: {there}")
    return found


def _by_names(where: str, scope: Mapping[str, str], split: str, rows_tell: Callable[[str], bool]) -> list[str]:
    sharded = {file: canonical(match[1]) for file, inner in scope.items() if (match := _SHARDED.fullmatch(inner))}
    if split == ALL:
        used = list(scope)
    elif any(same_split(name, split) for name in sharded.values()):
        # data/train-00000-of-00001 is train, and data/train_small-00000-of-00001 a split of its own
        named = {file: {sharded[file]} if file in sharded else splits_of(inner) for file, inner in scope.items()}
        used = _unambiguous(where, named, split)
    elif not is_keyword(split):
        used = [file for file, inner in scope.items() if stands_in(split, inner)]
    else:
        used = _unambiguous(where, {file: splits_of(inner) for file, inner in scope.items()}, split)
    if not used:
        _check_unnamed(where, scope, sharded, split, rows_tell)
        used = list(scope)
    _check_one_configuration(where, {_configuration(scope[file]) for file in used})
    return used


def _unambiguous(where: str, named: Mapping[str, set[str]], split: str) -> list[str]:
    """Returns the files that are of a split; OptionError if one of them may be of another too."""
    used = [file for file, names in named.items() if any(same_split(name, split) for name in names)]
    doubtful = next((file for file in used if len(named[file]) > 1), None)
    if doubtful is not None:
        raise OptionError(
            f"{where}: is {printable(doubtful)} of {' or of '.join(sorted(named[doubtful]))}? --root may name the "
            f"folder or file to read, --split other words that stand in its name"
        )
    return used


def _check_unnamed(
    where: str, scope: Mapping[str, str], sharded: Mapping[str, str], split: str, rows_tell: Callable[[str], bool]
) -> None:
    """Refuses to read all files as the split, unless their rows tell, or it is train and no name says anything else."""
    there = {name for inner in scope.values() for name in splits_of(inner)} | set(sharded.values())
    words = undelimited(list(scope.values()))
    if rows_tell(next(iter(scope))) and not any(map(is_keyword, there)):
        return
    if split == "train" and len(there) < 2 and not words and not any(map(is_keyword, there)):
        return
    word = next((word for word in words if split.lower() in word.lower()), words[0] if words else "")
    hint = "" if not words else (
        f"; do {_list(words)} name splits? A split's name stands between dashes, underscores, dots or digits: "
        f"--split {printable(word)} takes the files of that name, --split all takes all"
    )  # fmt: skip
    raise OptionError(f"{where} holds no Parquet files of {split}; the splits there: {_list(sorted(there))}{hint}")


def _configuration(path: str) -> str:
    """Returns the folder above the one that names a split, or the file's own; "." for the root."""
    folders = path.split("/")[:-1]
    end = next((number for number, folder in enumerate(folders) if splits_in(folder)), len(folders))
    return "/".join(folders[:end]) or "."


def _check_one_configuration(where: str, found: set[str]) -> None:
    if len(found) > 1:
        raise OptionError(
            f"{where} holds several configurations ({_list(sorted(found))}), which may hold the same images: "
            f"--config NAME picks one, --config '*' takes them as parts of one set"
        )


def _list(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "") if shown else "none"
