"""What a source of images is: the contract between `selfie_data.sources` and the build.

A source knows how many images it has and their labels, and reads any of them by index. Sources that can only be read
from front to back (gzip, pickles, npz, parquet, remote shards) are spooled once into a directory first; what `spool`
returns reads at random.

    source = open_source("cifar10", "cifar-10-python.tar.gz")     # cheap: nothing is decoded yet
    source = source.spool(directory, progress)                    # at once for sources read in place
    image = source.read(17)                                       # bytes of a file, or uint8 [H, W, 3]
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import ImageError
from selfie_data.storage.place import Place

_MANY = 256  # images, asked for at once of sources that can

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes expected); the second is an estimate and may be exceeded, 0 if unknown."""


class SourceImage(NamedTuple):
    """One image as the source has it.

    Attributes:
        name: where it came from, for reports: printable, one line, no host path.
        data: the bytes of an image file, or decoded pixels, uint8 [H, W, 3], read-only.
    """

    name: str
    data: bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Which images of a source are neighbours where they lie, and are read together.

    Attributes:
        starts: int64 [blocks + 1], rising: the first image of each block; last, how many images there are.
        bytes: int64 [blocks], what reading each block takes.
    """

    starts: NDArray[np.int64]
    bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bytes)

    @classmethod
    def cut(
        cls, file: NDArray[np.integer], offset: NDArray[np.int64], length: NDArray[np.int64], *, block_bytes: int
    ) -> "Blocks":
        """Cuts files, given ranges of bytes in their order, at multiples of `block_bytes`; no block spans two files."""
        number = offset // block_bytes
        begins = np.flatnonzero((np.diff(file, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
        starts = np.append(begins, len(file)).astype(np.int64)
        return cls(starts=starts, bytes=np.add.reduceat(length, begins))


class ImageSource(Protocol):
    """Images in a fixed order (sorted by name), with labels. Picklable: files are opened when first read, a process.

    `read` may be called from several threads and, after pickling or forking, from several processes.
    """

    @property
    def kind(self) -> str:
        """The name `open_source` knows it by."""

    @property
    def description(self) -> Mapping[str, Json]:
        """What goes into the manifest: kind, split, options, file names without directories, sizes; no host path."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of the source's names, sizes and times of change: tells another source from this on resume.

        Times are in it, so it stays out of every output.
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted; () when nothing is labelled. What is not yet spooled is read once as a whole for it."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 [N], read-only: positions in `class_names`, -1 for none. As costly as `class_names`."""

    @property
    def spool_bytes(self) -> int:
        """Bytes `spool` will write, 0 for sources read in place; an estimate, and 1 for remote shards: not known."""

    def __len__(self) -> int: ...

    # A source may also have the attribute `notices`, see `selfie_data.notices`, `at_once`, see `read_images`, and
    # what `BlockSource` has; `neighbours(n)` gives up to n images that are read cheaply, as a sample.
    # One that knows something of each image (a name, a place) has `take`: given indices,
    # int64 [k], it returns those k images in that order with their labels and nothing else, for a task elsewhere.

    def read(self, index: int) -> SourceImage:
        """Returns image `index`, 0 <= index < len(self).

        Raises:
            ImageError: this image cannot be used (empty, unreadable, too large).
            SourceError: the source itself is truncated, gone or changed.
        """

    def spool(self, directory: Place, progress: Progress | None = None) -> "ImageSource":
        """Returns a source that reads at random; itself if it does already.

        What is in `directory` from an earlier call that was cut short is checked and used.

        Raises:
            SourceError: the source is damaged or is not what it claims to be.
            BuildError: `directory` cannot be written.
        """


@runtime_checkable
class BlockSource(Protocol):
    """A source whose images lie side by side in large files, so that one request may bring many."""

    @property
    def far(self) -> bool:
        """Whether a request for each image would be costly: builds then go by blocks, unless asked otherwise."""

    def in_blocks(self, block_bytes: int, /) -> tuple["GatheringSource", Blocks]:
        """Returns the same images in the order in which they lie, read in place, cut into blocks of about this size."""


@runtime_checkable
class GatheringSource(ImageSource, Protocol):
    """A source that reads many images by few requests."""

    def read_together(self, indices: list[int], directory: Path, /) -> Iterator[SourceImage | ImageError]:
        """Yields images as `read_images`; few requests bring all of them before, to a nameless file in `directory`."""


def read_images(source: ImageSource, indices: list[int]) -> Iterator[SourceImage | ImageError]:
    """Yields each image, or why it cannot be used; reads several at once where the source can.

    A source with the method `read_many` is asked for all; one whose attribute `at_once` is above 1 (what lies far away)
    for so many by as many threads.

    Raises:
        SourceError: the source itself cannot be read.
    """
    read_many: Callable[[list[int]], list[SourceImage]] | None = getattr(source, "read_many", None)
    if read_many is not None:  # generated pictures come cheaper by the dozen
        for start in range(0, len(indices), _MANY):
            yield from read_many(indices[start : start + _MANY])
        return
    at_once: int = getattr(source, "at_once", 1)
    if at_once == 1:
        yield from map(partial(_read, source), indices)
        return
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[SourceImage | ImageError]] = deque()
        for index in indices:
            waiting.append(pool.submit(_read, source, index))
            if len(waiting) == at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(source: ImageSource, index: int) -> SourceImage | ImageError:
    try:
        return source.read(index)
    except ImageError as error:  # it names the image
        return error
