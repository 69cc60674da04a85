"""Small datasets that change, what is in their folders, and processes that die at any step."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import read_payloads
from tests.material import MemorySource, memory_source, picture

CLASSES = 3


def pictures(count: int, *, first: int = 0, classes: int = CLASSES, bad: Sequence[int] = ()) -> MemorySource:
    """Returns labelled pictures of 8 px, those of the places `bad` being none."""
    images = [b"bad" if n in bad else picture(8, 8, seed=first + n) for n in range(count)]
    return memory_source(images, [n % classes for n in range(count)], name=f"pictures from {first}")


def small_dataset(out: Path, *, count: int = 40, bad: Sequence[int] = (), each: int = 10) -> Path:
    """Builds raw pictures of 8 px, so many a shard."""
    build_shards(pictures(count, bad=bad), out, BuildOptions(size=8, samples_per_shard=each), workers=1)
    return out


def contents(folder: Path) -> dict[str, str]:
    """Returns path -> SHA-256 of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def payloads(dataset: Dataset, ids: NDArray[np.int64]) -> list[bytes]:
    return [read_payloads(dataset, ids[place : place + 1])[0] for place in range(len(ids))]


def files_with(folder: Path, payload: bytes) -> list[str]:
    """Returns the files that hold these bytes."""
    return [path.name for path in folder.rglob("*") if path.is_file() and payload in path.read_bytes()]


class Killed(BaseException):
    """The process is dead: nothing that it does after this has any effect."""


class Mortal:
    """Lets a process change the file system so many times."""

    def __init__(self, patch: pytest.MonkeyPatch, steps: int) -> None:
        self.left = steps
        for name in ("replace", "link", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function):  # type: ignore[no-untyped-def]  # any of the functions of `os`
        def counted(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return function(*args, **kwargs)

        return counted
