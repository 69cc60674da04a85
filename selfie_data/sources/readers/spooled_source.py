"""A source that is read from front to back, before it is spooled: it knows its labels, but reads no single image."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import SourceError
from selfie_data.notices import Notices
from selfie_data.source import Json, Progress
from selfie_data.sources.readers.byte_ranges import RangeSource
from selfie_data.sources.readers.labels import Labelled
from selfie_data.sources.readers.spool import Reader, Rows, scan, spool
from selfie_data.storage.place import Place


class Resolved(NamedTuple):
    """Which rows are images, in the order of the source, their labels in that order, and what is not used."""

    order: NDArray[np.int64]
    labelled: Labelled
    notices: Notices | None = None
    empty: str = "is empty"  # what is said of an image without bytes


class Layout(Reader, Protocol):
    """A reader that also knows what its rows mean. `pixels`: rows are raw squares of uint8 [S, S, 3]."""

    @property
    def pixels(self) -> bool: ...

    def resolve(self, rows: Rows) -> Resolved:
        """Makes out order and labels when all rows are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledSource:
    """An `ImageSource` to be spooled. `labels` and `len` read the whole source once, `spool` does it for good."""

    kind: str
    description: Mapping[str, Json]
    fingerprint: str
    layout: Layout
    spool_bytes: int
    noticed: Notices = field(default_factory=Notices, compare=False)  # when it was opened
    _cache: list[Resolved] = field(init=False, repr=False, compare=False, default_factory=list)

    @classmethod
    def of_files(
        cls,
        kind: str,
        files: Sequence[Place],
        layout: Layout,
        *,
        chosen: Mapping[str, Json],
        classes: Sequence[str] | None,
        spool_bytes: int,
        notices: Notices | None = None,
    ) -> Self:
        """Makes a source of local files, described by them and by the options `chosen`."""
        return cls(
            kind=kind,
            description=describe(kind, chosen, files),
            fingerprint=fingerprint_of(kind, chosen, facts_of(files), classes),
            layout=layout,
            spool_bytes=spool_bytes,
            noticed=notices or Notices(),
        )

    @property
    def resolved(self) -> Resolved:
        if not self._cache:
            self._cache.append(self.layout.resolve(self.checked(scan(self.layout))))
        return self._cache[0]

    @property
    def notices(self) -> Notices:
        """As costly as `labels`."""
        return self.all_notices(self.resolved)

    @property
    def labelled(self) -> Labelled:
        return self.resolved.labelled

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labelled.class_names

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.labelled.labels

    def __len__(self) -> int:
        return len(self.labelled.labels)

    def read(self, index: int) -> NoReturn:
        raise ValueError(f"the source {self.kind} is read from front to back: call spool(directory) for image {index}")

    def spool(self, directory: Place, progress: Progress | None = None) -> RangeSource:
        rows, ranges = spool(
            self.layout, directory, fingerprint=self.fingerprint, expected=self.spool_bytes, progress=progress
        )
        resolved = self.layout.resolve(self.checked(rows))
        return RangeSource(
            kind=self.kind,
            description=self.description,
            fingerprint=self.fingerprint,
            ranges=ranges.take(resolved.order),
            labelled=resolved.labelled,
            notices=self.all_notices(resolved),
            pixels=_square(rows.lengths) if self.layout.pixels else None,
            empty=resolved.empty,
        )

    def all_notices(self, resolved: Resolved) -> Notices:
        """Returns what was noticed when it was opened and when its rows were made out."""
        return Notices(self.noticed, resolved.notices or Notices())

    def checked(self, rows: Rows) -> Rows:
        """Returns the rows; SourceError if there are none, or they are no squares where they have to be."""
        if not rows.names:
            subtree = self.description.get("subtree")
            raise SourceError(f"the source {self.kind}{f' below {subtree}' if subtree else ''} holds no images")
        if self.layout.pixels:
            _square(rows.lengths)
        return rows


def _square(lengths: NDArray[np.int64]) -> tuple[int, int]:
    """Returns (S, S) for rows of S·S·3 bytes, all alike."""
    sizes = np.unique(lengths)
    if len(sizes) > 1:
        raise SourceError(f"the images have different sizes: rows of {sizes[0]} and of {sizes[-1]} bytes")
    side = math.isqrt(int(sizes[0]) // 3)
    if side == 0 or side * side * 3 != sizes[0]:
        raise SourceError(f"rows of {sizes[0]} bytes are no square RGB images")
    return side, side


def fingerprint_of(
    kind: str,
    options: Mapping[str, Json],
    files: Iterable[Sequence[Any]],
    classes: Sequence[str] | None = None,
) -> str:
    """Returns a digest of a source's options, its files' (name, size, time of change, …) and the class list to use."""
    chosen = [kind, options, None if classes is None else list(classes)]
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    for name, size, changed, *_ in files:
        digest.update(f"\0{size}\0{changed}\0".encode() + name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def facts_of(paths: Iterable[Place]) -> list[tuple[str, int, int]]:
    """Returns (name, size, time of change in ns) of files, for `fingerprint_of`."""
    return [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]


def describe(kind: str, options: Mapping[str, Json], paths: Iterable[Place]) -> dict[str, Json]:
    """Returns a description for the manifest: options that are set, and the files' names and sizes."""
    files: list[Json] = [{"name": path.name, "bytes": path.stat().st_size} for path in paths]
    return {"kind": kind, **{key: value for key, value in options.items() if value is not None}, "files": files}
