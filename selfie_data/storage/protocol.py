"""What every kind of storage does: few operations, each either done or not."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from selfie_data.errors import SelfieDataError

PART_BYTES = 8 << 20  # of a read: a limit on the time of a whole transfer is then one on the rate, 70 kB/s


class StorageError(SelfieDataError, OSError):
    """A storage refuses, does not answer, or gives other bytes than it should; one line, without any credentials.

    It is an OSError, as what a disk raises, so that whoever reads files needs one rule; `strerror` is the reason.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.strerror = where, reason

    def __reduce__(self) -> tuple[object, ...]:
        return StorageError, (self.where, self.strerror)


class Stat(NamedTuple):
    """What is known of a file without reading it.

    Attributes:
        name: path below the storage's root, with `/`.
        size: bytes.
        changed: time of change, ns since 1970.
    """

    name: str
    size: int
    changed: int


class Storage(Protocol):
    """A folder, wherever it lies; names are paths below it. Picklable: nothing but `url` goes along.

    Every operation raises FileNotFoundError where there is nothing of that name (`stat` and `delete` excepted) and
    another OSError, of remote storage a `StorageError`, where it cannot be done. Every wait has a bound.
    """

    @property
    def url(self) -> str:
        """What people call it: a path or a URL."""

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Returns exactly `length` bytes from `start` on, or all there are; fewer are an error."""

    def pieces(self, name: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yields the same bytes piece by piece, of 8 MiB at most; of one object, also if it changes meanwhile."""

    def stat(self, name: str) -> Stat | None:
        """Returns the facts of a file, None if there is none."""

    def list(self, folder: str = "") -> Iterator[Stat]:
        """Yields the files of a folder and of those below it, in any order; nothing if it is not there."""

    def publish(self, files: Mapping[str, Path]) -> None:
        """Gives files of this machine their names, in this order: each is there whole, or not at all.

        What had the name is replaced; the same bytes again are harmless. The files belong to the storage afterwards.
        """

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Writes a small file, whole or not at all; not `durable`: it may be lost when the power is."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes a small file unless there is one; says whether it did. Whoever is told no compares what is there."""

    def delete(self, names: Iterable[str]) -> None:
        """Removes files; those that are not there are no error."""
