"""Generated pictures, the embedded default: any number, any size, from a seed; a pure function of (seed, index).

Ten classes of shapes made of bars and discs. A class is told by the arrangement of its parts: frame, arch, table,
twins and stack are much the same bars put elsewhere. Colours, shading, place, size, proportions, tilt, clutter and
noise are drawn without regard to the class. Large shapes and one smooth shading over a picture tie neighbouring
patches together, so there is something to learn from putting a patch back.

    source = open_source("synthetic", limit=4096, size=32, seed=0)      # `synthetic_shapes` draws
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import Json, Progress, SourceImage
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.synthetic_shapes import SHAPES, draw_shapes
from selfie_data.storage.place import Place

VERSION = 1  # of the pictures; a change of any byte of any picture needs a new number
MIN_SIZE, MAX_SIZE = 8, 1024  # px; the noise of a larger picture needs more than the 2**16 Philox blocks of a stream
DEFAULT_COUNT = {"train": 50_000, "val": 10_000, "test": 10_000}
_FIRST_ID = {"train": 0, "val": 1 << 40, "test": 2 << 40}  # splits take their draws from ids far apart
_CHUNK_PIXELS = 1 << 16  # pixels worked on at once: what stays in the second-level cache


def open_images(kind: str, root: Path | str, options: SourceOptions) -> "SyntheticSource":
    """Opens the generated pictures; `limit` is how many, `size` their side in pixels.

    Raises:
        SourceError: a root was given, or `classes` lacks one of the shapes.
        ValueError: size or limit out of range.
    """
    if str(root):
        raise OptionError(f"the source {kind} reads no files, got --root {root}: leave it out")
    count = DEFAULT_COUNT[options.split] if options.limit is None else options.limit
    return SyntheticSource(
        split=options.split, count=count, size=options.size, seed=options.seed, classes=options.classes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSource:
    """The pictures of one split.

    Attributes:
        split: train, val or test: the same kind of pictures, none of them shared.
        count: how many; picture i is the same for every count.
        size: height and width, pixels.
        seed: 0 <= seed < 2**64.
        classes: class names to number the labels by; None for the shapes' own.
    """

    split: str
    count: int
    size: int
    seed: int
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ValueError(f"synthetic pictures are {MIN_SIZE} to {MAX_SIZE} px wide, got {self.size}")
        if not 1 <= self.count <= 1 << 40:
            raise ValueError(f"the number of synthetic pictures must be in [1, 2**40], got {self.count}")
        if missing := sorted(set(SHAPES) - set(self.class_names)):
            raise SourceError(f"the given classes lack {', '.join(missing)}, which the source synthetic has")

    @property
    def kind(self) -> str:
        return "synthetic"

    @property
    def description(self) -> Mapping[str, Json]:
        return {
            "kind": self.kind,
            "split": self.split,
            "count": self.count,
            "size": self.size,
            "seed": self.seed,
            "version": VERSION,
        }

    @property
    def fingerprint(self) -> str:
        text = json.dumps({**self.description, "classes": list(self.class_names)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(SHAPES) if self.classes is None else self.classes

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 [N]: picture i shows shape i mod 10."""
        names = self.class_names
        order = np.array([names.index(name) for name in SHAPES], dtype=np.int32)
        labels = np.resize(order, self.count)
        labels.setflags(write=False)
        return labels

    @property
    def spool_bytes(self) -> int:
        return 0

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> SourceImage:
        """Returns picture `index`; `read_many` is several times as fast."""
        return self.read_many((index,))[0]

    def read_many(self, indices: Sequence[int]) -> list[SourceImage]:
        """Returns the pictures `indices`, each as `read` would."""
        pictures = self.pictures(np.asarray(indices, dtype=np.int64))
        return [
            SourceImage(f"synthetic/{self.split}/{index:09d}", picture)
            for index, picture in zip(indices, pictures, strict=True)
        ]

    def pictures(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns uint8 [B, S, S, 3], read-only."""
        if indices.size and not (indices.min() >= 0 and indices.max() < self.count):
            raise IndexError(f"pictures are 0 to {self.count - 1}, got {indices.min()} to {indices.max()}")
        shapes = indices % len(SHAPES)
        order = np.argsort(shapes, kind="stable")  # one shape after the other: each is one expression on one slice
        pictures = np.empty((len(indices), self.size, self.size, 3), dtype=np.uint8)
        step = max(1, _CHUNK_PIXELS // self.size**2)
        for start in range(0, len(indices), step):
            part = order[start : start + step]
            ids = indices[part] + _FIRST_ID[self.split]
            pictures[part] = draw_shapes(self.seed, ids, shapes[part], self.size)
        pictures.setflags(write=False)
        return pictures

    def spool(self, directory: Place, progress: Progress | None = None) -> "SyntheticSource":  # noqa: ARG002
        """Returns itself: any picture can be generated at any time."""
        return self
