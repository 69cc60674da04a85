"""Put in the way as `sitecustomize`: only modules that the variable SELFIE_BARE_HOST names can be found."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Only:
    """A finder that finds what another finds, as far as a GPU host has it."""

    def __init__(self, finder: Any, there: frozenset[str]) -> None:
        self._finder = finder
        self._there = there

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        # the name of this module of the standard library depends on the machine
        if top not in self._there and not top.startswith("_sysconfigdata"):
            return None
        found: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)  # what tells the versions of distributions


if names := os.environ.get("SELFIE_BARE_HOST"):
    everything = frozenset(names.split(",")) | sys.stdlib_module_names
    sys.meta_path[:] = [Only(finder, everything) for finder in sys.meta_path]
