"""The dataset card: `configs:` in the YAML block of a repository's README.md says which files are which split.

    ---
    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/train-*
    ---

Only this entry of the block is parsed, up to `_MAX_BYTES` of it, without YAML's aliases and types of Python: a block
that is made to grow when it is read is refused.
"""

import re
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import msgspec

from selfie_data.errors import SourceError
from selfie_data.sources.naming.file_names import printable
from selfie_data.storage.place import Place

_MAX_BYTES = 256 << 10  # of the entry: sets of several hundred languages have about 100 kB
_MAX_BLOCK = 16 << 20  # of README.md: class names of 20 thousand classes have 1 MB
_ENTRY = re.compile(r"^configs[ \t]*:.*\n(?:(?:[ \t#-].*)?\n)*", re.MULTILINE)

Paths = str | list[str]


class _SplitFiles(msgspec.Struct, forbid_unknown_fields=True):
    split: str | int
    path: Paths


class _Entry(msgspec.Struct):
    config_name: str | int | float
    data_files: str | list[str | _SplitFiles] | dict[str, Paths] | None = None
    data_dir: str = ""
    default: bool = False


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a repository that is read by itself.

    Attributes:
        name: what `--config` calls it.
        folder: all of it lies below, "" for the root.
        splits: split -> patterns of paths below `folder`; None where file names tell.
        default: taken where no configuration is asked for.
    """

    name: str
    folder: str
    splits: dict[str, list[str]] | None
    default: bool


def read_card(root: Place) -> list[Configuration]:
    """Returns the configurations that README.md lists, [] if there is no such list.

    Raises:
        SourceError: the list is not what the hub documents, or too long.
    """
    text = _entry(root / "README.md")
    if text is None:
        return []
    try:
        entries = msgspec.convert(_plain_yaml(text)["configs"], list[_Entry])
    except (msgspec.ValidationError, TypeError, KeyError) as error:
        raise _refused(str(error)) from error
    found = [_configuration(entry) for entry in entries]
    names = [configuration.name for configuration in found]
    if len(set(names)) < len(names):
        raise _refused("a config_name stands twice")
    return found


def _refused(why: str) -> SourceError:
    first = printable(why.splitlines()[0][:120]) if why else "no list"
    return SourceError(f"configs in README.md is not what the hub documents ({first}); --root may name a folder below")


def _entry(path: Place) -> str | None:
    try:
        with path.open("rb", buffering=0) as file:
            text = file.read(_MAX_BLOCK).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    block = re.match(r"---[ \t]*\n(.*?\n)---[ \t]*(\n|$)", text, re.DOTALL)
    entry = None if block is None else _ENTRY.search(block[1])
    if entry is not None and len(entry[0]) > _MAX_BYTES:
        raise _refused(f"more than {_MAX_BYTES} characters")
    return None if entry is None else entry[0]


def _plain_yaml(text: str) -> Any:
    yaml: Any = import_module("yaml")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _refused("aliases are not read")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that is none
        raise _refused(str(error)) from error


def _configuration(entry: _Entry) -> Configuration:
    files = entry.data_files
    splits: dict[str, list[str]] | None = None
    if isinstance(files, str):
        splits = {"train": [files]}
    elif isinstance(files, dict):
        splits = {name: _list(paths) for name, paths in files.items()}
    elif files is not None:
        splits = _of_list(files)
    folder = entry.data_dir.removeprefix("./").strip("/")
    return Configuration(name=str(entry.config_name), folder=folder, splits=splits, default=entry.default)


def _of_list(files: list[str | _SplitFiles]) -> dict[str, list[str]]:
    plain = [item for item in files if isinstance(item, str)]
    named = [item for item in files if isinstance(item, _SplitFiles)]
    if plain and named:
        raise _refused("data_files mixes paths with splits")
    splits = {str(item.split): _list(item.path) for item in named}
    if len(splits) < len(named):
        raise _refused("a split stands twice")
    return splits if named else {"train": plain}


def _list(paths: Paths) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


def matches(pattern: str, path: str) -> bool:
    """Says whether a glob of the card means a path: `*` and `?` stay within a folder, `**` stands for any folders."""
    parts = path.split("/")
    reached = {0}  # how many parts of the path may be used up: no backtracking, whatever the pattern
    for piece in pattern.removeprefix("./").split("/"):
        if piece == "**":
            reached = set(range(min(reached), len(parts) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatchcase(parts[at], piece)}
    return len(parts) in reached
