"""A source whose images are byte ranges of a few files: tars read in place, and what was spooled."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import ImageError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import Blocks, Json, Progress, SourceImage, read_images
from selfie_data.sources.naming.file_names import NameTable, printable
from selfie_data.sources.readers.labels import Labelled
from selfie_data.storage.gather import gather, join_ranges
from selfie_data.storage.place import Place, RemotePath

MAX_IMAGE_BYTES = 256 << 20  # of one encoded image; a build worker has 400 MiB
REMOTE_READS = 32  # at a time: 30 ms of waiting each are then 1 ms an image
_MAX_OPEN = 256  # files kept open; with more, each is opened for each read


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Where N images lie.

    Attributes:
        paths: the files.
        sizes: their sizes in bytes when they were listed.
        file: int32 [N], which file.
        offset, length: int64 [N], byte range in it.
        names: what each image is called.
    """

    paths: tuple[Place, ...]
    sizes: tuple[int, ...]
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    names: NameTable

    def __len__(self) -> int:
        return len(self.names)

    def take(self, order: NDArray[np.int64]) -> "Ranges":
        """Returns the images at `order`."""
        return replace(
            self,
            file=self.file[order],
            offset=self.offset[order],
            length=self.length[order],
            names=self.names.take(order),
        )

    def of_used_files(self) -> "Ranges":
        """Returns the same without the files that no image lies in."""
        used, file = np.unique(self.file, return_inverse=True)
        paths, sizes = (tuple(each[number] for number in used.tolist()) for each in (self.paths, self.sizes))
        return replace(self, paths=paths, sizes=sizes, file=file.astype(np.int32))

    def read_bytes(self, index: int, descriptors: "Descriptors") -> bytes:
        """Returns the bytes of image `index`; SourceError if the file ends before."""
        file, length = int(self.file[index]), int(self.length[index])
        path = self.paths[file]
        if not isinstance(path, Path):
            descriptors.check(file, path, self.sizes[file])
            return _read_remote(path, int(self.offset[index]), length)
        descriptor = descriptors.get(file, path, self.sizes[file])
        try:
            data = os.pread(descriptor, length, int(self.offset[index]))
        except OSError as error:
            raise SourceError(f"cannot read {path.name}: {error.strerror}") from error
        finally:
            descriptors.release(descriptor)
        if len(data) != length:
            raise SourceError(f"{path.name} is truncated: it ends inside {printable(self.names[index])}")
        return data


class Descriptors:
    """Open files of this process, opened when first needed. Pickling drops them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.open: dict[int, int] = {}
        self.checked: set[int] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return Descriptors, (self.count,)

    def __del__(self) -> None:
        for descriptor in self.open.values():
            os.close(descriptor)

    def check(self, number: int, path: RemotePath, size: int) -> None:
        """Compares the size of a remote file with what it was, once a process."""
        if number not in self.checked:
            _refuse_change(path, path.stat().st_size, size)
            self.checked.add(number)

    def get(self, number: int, path: Path, size: int) -> int:
        descriptor = self.open.get(number)
        if descriptor is not None:
            return descriptor
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {path.name}: {error.strerror}") from error
        now = os.fstat(descriptor).st_size
        try:
            _refuse_change(path, now, size)
        except SourceError:
            os.close(descriptor)
            raise
        if self.count > _MAX_OPEN:
            return descriptor
        other = self.open.setdefault(number, descriptor)
        if other != descriptor:  # another thread was faster
            os.close(descriptor)
        return other

    def release(self, descriptor: int) -> None:
        if self.count > _MAX_OPEN:
            os.close(descriptor)


def _refuse_change(path: Place, now: int, before: int) -> None:
    if now != before:
        raise SourceError(f"{path.name} has changed while it was read: {before} bytes before, {now} now")


def _read_remote(path: RemotePath, offset: int, length: int) -> bytes:
    try:
        return path.read_range(offset, length)
    except FileNotFoundError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSource:
    """An `ImageSource` of byte ranges.

    Attributes:
        pixels: (height, width) if every range is raw uint8 pixels [H, W, 3]; None if it is an image file.
        empty: what is said of an image without bytes.
    """

    kind: str
    description: Mapping[str, Json]
    fingerprint: str
    ranges: Ranges
    labelled: Labelled
    pixels: tuple[int, int] | None = None
    spool_bytes: int = 0
    notices: Notices = field(default_factory=Notices, compare=False)
    empty: str = "is empty"
    _descriptors: Descriptors = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_descriptors", Descriptors(len(self.ranges.paths)))
        if not len(self.ranges):
            raise SourceError(f"the source {self.kind} holds no images")

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labelled.class_names

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.labelled.labels

    @property
    def far(self) -> bool:
        """Whether a request for each image would be costly."""
        return not isinstance(self.ranges.paths[0], Path)

    @property
    def at_once(self) -> int:
        """How many reads pay at a time."""
        return REMOTE_READS if self.far else 1

    def __len__(self) -> int:
        return len(self.ranges)

    def read(self, index: int) -> SourceImage:
        if not 0 <= index < len(self.ranges):
            raise IndexError(f"image {index} of {len(self.ranges)}")
        return self._image(index, lambda: self.ranges.read_bytes(index, self._descriptors))

    def _image(self, index: int, read: Callable[[], bytes]) -> SourceImage:
        name = printable(self.ranges.names[index])
        if self.pixels is not None:
            return SourceImage(name, np.frombuffer(read(), dtype=np.uint8).reshape(*self.pixels, 3))
        if self.ranges.length[index] == 0:
            raise ImageError(f"{name} {self.empty}")
        check_length(int(self.ranges.length[index]), name)
        return SourceImage(name, read())

    def in_blocks(self, block_bytes: int) -> tuple["RangeSource", Blocks]:
        """See `source.BlockSource`."""
        order = np.lexsort((self.ranges.offset, self.ranges.file))
        ranges, labelled = self.ranges, self.labelled
        if (np.diff(order) != 1).any():
            ranges = ranges.take(order)
            labelled = Labelled(self.class_names, self.labels[order])
        blocks = Blocks.cut(ranges.file, ranges.offset, ranges.length, block_bytes=block_bytes)
        return replace(self, ranges=ranges, labelled=labelled), blocks

    def read_together(self, indices: list[int], directory: Path) -> Iterator[SourceImage | ImageError]:
        """See `source.GatheringSource`."""
        paths = [path for path in self.ranges.paths if not isinstance(path, Path)]
        if not paths:
            yield from read_images(self, indices)
            return
        ranges, length = self.ranges, self.ranges.length[indices]
        fetched = np.where(length > MAX_IMAGE_BYTES, np.int64(0), length)
        runs, where = join_ranges(ranges.file[indices], ranges.offset[indices], fetched)
        for number in dict.fromkeys(run.file for run in runs):
            self._descriptors.check(number, paths[number], self.ranges.sizes[number])
        with gather(paths, runs, directory) as descriptor:
            for index, start, size in zip(indices, where.tolist(), length.tolist(), strict=True):
                try:
                    yield self._image(index, partial(os.pread, descriptor, size, start))
                except ImageError as error:
                    yield error

    def spool(self, directory: Place, progress: Progress | None = None) -> "RangeSource":  # noqa: ARG002
        return self

    def take(self, indices: NDArray[np.int64]) -> "RangeSource":
        """See `source.ImageSource`."""
        ranges, labelled = self.ranges.take(indices).of_used_files(), self.labelled.take(indices)
        return replace(self, ranges=ranges, labelled=labelled, description={}, notices=Notices())


def check_length(length: int, name: str) -> None:
    """Refuses an image file that is empty or larger than a worker can hold."""
    if length == 0:
        raise ImageError(f"{name} is empty")
    if length > MAX_IMAGE_BYTES:
        raise ImageError(f"{name} has {length} bytes; an image file may have {MAX_IMAGE_BYTES}")
