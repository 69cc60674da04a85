"""Parquet files of a bucket, read by their row groups: labels at once, images when a shard needs them, no spool.

A row group is the least that can be read of a column, so groups are what blocks are made of: small ones several to a
block, a large one is a block by itself. Its images are unpacked on the worker's disk, those of a window at a time.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import ImageError, SourceError
from selfie_data.files import write_all
from selfie_data.notices import Notices
from selfie_data.source import Blocks, Json, Progress, SourceImage
from selfie_data.sources.naming.file_names import NameTable, printable
from selfie_data.sources.readers.byte_ranges import Descriptors, check_length
from selfie_data.sources.readers.labels import Labelled
from selfie_data.storage.place import Place, RemotePath
from selfie_data.storage.protocol import PART_BYTES, StorageError

_ROWS_AT_ONCE = 128  # unpacked: 14 MB of photographs of 110 kB
_GROUPS_AT_ONCE = 4  # read by a worker


class Group(NamedTuple):
    """A row group: file, number in it, and the bytes of its images as stored."""

    file: int
    number: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """A `GatheringSource` of row groups.

    Attributes:
        paths, sizes: the files, and their bytes when they were listed.
        groups: those of which rows are used.
        group, row: int32 [N]: where an image is, its place in `groups` and its row there.
        image: the column.
        empty: what is said of a row without an image's bytes.
    """

    kind: str
    description: Mapping[str, Json]
    fingerprint: str
    paths: tuple[Place, ...]
    sizes: tuple[int, ...]
    groups: tuple[Group, ...]
    group: NDArray[np.int32]
    row: NDArray[np.int32]
    names: NameTable
    labelled: Labelled
    image: str
    empty: str
    notices: Notices = field(default_factory=Notices, compare=False)
    spool_bytes: int = 0
    _files: Descriptors = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_files", Descriptors(len(self.paths)))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labelled.class_names

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.labelled.labels

    def __len__(self) -> int:
        return len(self.names)

    def spool(self, directory: Place, progress: Progress | None = None) -> "RowGroups":  # noqa: ARG002
        return self

    def take(self, indices: NDArray[np.int64]) -> "RowGroups":
        """See `source.ImageSource`."""
        used, group = np.unique(self.group[indices], return_inverse=True)
        groups = [self.groups[number] for number in used.tolist()]
        files = {file: number for number, file in enumerate(dict.fromkeys(each.file for each in groups))}
        return replace(
            self,
            paths=tuple(self.paths[file] for file in files),
            sizes=tuple(self.sizes[file] for file in files),
            groups=tuple(each._replace(file=files[each.file]) for each in groups),
            group=group.astype(np.int32),
            row=self.row[indices],
            names=self.names.take(indices),
            labelled=self.labelled.take(indices),
            description={},
            notices=Notices(),
        )

    def blocks(self, block_bytes: int) -> Blocks:
        """Returns blocks of whole groups, of about this size; images must be in the groups' order."""
        file = np.array([group.file for group in self.groups])
        length = np.array([group.bytes for group in self.groups], np.int64)
        before = np.cumsum(length) - length
        blocks = Blocks.cut(file, before, length, block_bytes=block_bytes)
        return Blocks(starts=np.searchsorted(self.group, blocks.starts).astype(np.int64), bytes=blocks.bytes)

    def neighbours(self, count: int) -> list[int]:
        """Returns up to `count` images of one row group, in the middle: a sample that costs reading one."""
        found: list[int] = np.flatnonzero(self.group == len(self.groups) // 2)[:count].tolist()
        return found

    def read(self, index: int) -> SourceImage:
        image = next(self.read_many([index]))
        if isinstance(image, ImageError):
            raise image
        return image

    def read_many(self, indices: list[int]) -> Iterator[SourceImage | ImageError]:
        """Yields images as `read_together`, by way of the folder for temporaries."""
        yield from self.read_together(indices, Path(tempfile.gettempdir()))

    def read_together(self, indices: list[int], directory: Path) -> Iterator[SourceImage | ImageError]:
        """See `source.GatheringSource`."""
        wanted = np.unique(indices)
        group = self.group[wanted]
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            where: dict[int, tuple[int, int]] = {}
            lock = Lock()

            def unpack(number: int) -> None:
                for index, data in self._images(self.groups[number], wanted[group == number]):
                    with lock:
                        where[index] = (file.tell(), len(data))
                        write_all(file.fileno(), data)

            with ThreadPoolExecutor(_GROUPS_AT_ONCE) as pool:
                try:
                    list(pool.map(unpack, np.unique(group).tolist()))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            for index in indices:
                start, size = where[index]
                yield self._image(index, os.pread(file.fileno(), size, start))

    def _images(self, group: Group, chosen: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        """Yields images of a row group, by rising row."""
        chosen = chosen[np.argsort(self.row[chosen])]
        path, rows, first = self.paths[group.file], self.row[chosen], 0
        if isinstance(path, RemotePath):
            self._files.check(group.file, path, self.sizes[group.file])
        with open_file(path) as file:
            for batch in file.iter_batches(
                batch_size=_ROWS_AT_ONCE, row_groups=[group.number], columns=[self.image], use_threads=False
            ):
                inside = np.flatnonzero((first <= rows) & (rows < first + batch.num_rows))
                column = batch.column(0)  # not every type of column has a `take`
                images = images_of(column[row] for row in (rows[inside] - first).tolist())
                yield from zip(chosen[inside].tolist(), images, strict=True)
                first += batch.num_rows

    def _image(self, index: int, data: bytes) -> SourceImage | ImageError:
        name = printable(self.names[index])
        try:
            if not data:
                raise ImageError(f"{name} {self.empty}")
            check_length(len(data), name)
        except ImageError as error:
            return error
        return SourceImage(name, data)


@contextmanager
def open_file(path: Place) -> Iterator[Any]:
    """Opens a file, a remote one to be read by parts; what pyarrow raises while it is open becomes one line."""
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError("the source parquet needs pyarrow: pip install 'selfie[parquet]'") from error
    try:
        if isinstance(path, Path):
            opened = parquet.ParquetFile(path)
        else:
            opened = parquet.ParquetFile(path.open("rb", buffering=0), buffer_size=PART_BYTES)
        with opened as file:
            yield file
    except StorageError:
        raise
    except (OSError, ValueError, NotImplementedError, OverflowError) as error:  # pyarrow's own errors are ValueErrors
        raise SourceError(f"{path.name} is no Parquet file, truncated or damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return printable(str(error).splitlines()[0][:120]) if str(error) else type(error).__name__


def images_of(scalars: Iterable[Any]) -> list[bytes]:
    """Returns the bytes of each image of a column, b"" for null: such a row is found out when it is read."""
    values = [scalar.as_py() for scalar in scalars]
    return [(value.get("bytes") if isinstance(value, dict) else value) or b"" for value in values]
