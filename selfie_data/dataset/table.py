"""`samples.zarr`: one row per sample id, one zarr v3 array a column: a reader knows every byte range at start-up.

Columns are uncompressed chunks of a fixed length with empty chunks written: a chunk is then its little-endian values
and nothing else. Reading goes through NumPy, which needs neither zarr nor its start-up time; the manifest's hashes,
checked on the way, catch a missing chunk (which zarr would read as zeros without a word) and a flipped bit.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import DatasetError
from selfie_data.files import write_file
from selfie_data.storage.place import Place

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

NAME = "samples.zarr"
CHUNK_LENGTH = 65_536
DTYPES = {
    "label": "<i4",
    "shard": "<i4",
    "offset": "<i8",
    "length": "<i8",
    "height": "<i4",
    "width": "<i4",
    "crc32c": "<u4",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleTable:
    """Seven columns [N], read-only; row i belongs to sample id i.

    Attributes:
        label: int32 class index, -1 = none.
        shard: int32 position in the manifest's shards.
        offset: int64 first byte of the image in the shard.
        length: int64 bytes of the image.
        height: int32 pixels of the stored image.
        width: int32 pixels of the stored image.
        crc32c: uint32 checksum of the image's bytes.
    """

    label: NDArray[np.int32]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    crc32c: NDArray[np.uint32]

    def __post_init__(self) -> None:
        for column in fields(self):
            getattr(self, column.name).setflags(write=False)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, ids: NDArray[np.int64]) -> "SampleTable":
        """Returns the rows of ids [B]."""
        return SampleTable(**{column.name: getattr(self, column.name)[ids] for column in fields(self)})


def write_table(table: SampleTable, directory: Path) -> dict[str, str]:
    """Writes the columns as a new zarr group at `directory` (named `samples.zarr`); `publish_tree` makes it durable.

    Returns:
        path relative to the dataset -> SHA-256, for every file of the group.
    """
    import zarr  # half a second of imports that readers never need
    from zarr.storage import MemoryStore

    held: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(held))
    hashes: dict[str, str] = {}
    for name, dtype in DTYPES.items():
        column = group.create_array(
            name,
            shape=(len(table),),
            chunks=(CHUNK_LENGTH,),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            config={"write_empty_chunks": True},
        )
        column[:] = getattr(table, name)
        # Through memory: of zarr's own writing, some goes on in other threads after an error, into the next attempt.
        for key in sorted(held):
            hashes[f"{NAME}/{key}"] = _write_file(directory / key, held.pop(key).to_bytes())
    return hashes


def _write_file(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data, durable=False)
    return hashlib.sha256(data).hexdigest()


def table_files(samples: int) -> list[str]:
    """Returns the paths, relative to the dataset, of all files that the table of so many samples has."""
    chunks = range(-(-samples // CHUNK_LENGTH))
    columns = [
        f"{NAME}/{name}/{file}" for name in DTYPES for file in ("zarr.json", *(f"c/{chunk}" for chunk in chunks))
    ]
    return [f"{NAME}/zarr.json", *columns]


def read_table(dataset: Place, *, samples: int, files: Mapping[str, str]) -> SampleTable:
    """Reads the table of the dataset directory and checks every file of it.

    Args:
        dataset: the dataset directory.
        samples: number of rows that the manifest promises.
        files: the manifest's hashes; relative path -> SHA-256.

    Raises:
        DatasetError: a file is missing, changed, or not of the promised shape.
    """
    read_checked(dataset, f"{NAME}/zarr.json", files)
    with ThreadPoolExecutor(len(DTYPES)) as pool:  # hashing leaves the interpreter free
        columns = pool.map(lambda name: _read_column(dataset, name, samples, files), DTYPES)
        return SampleTable(**dict(zip(DTYPES, columns, strict=True)))


def _read_column(dataset: Place, name: str, samples: int, files: Mapping[str, str]) -> NDArray[Any]:
    metadata = read_checked(dataset, f"{NAME}/{name}/zarr.json", files)
    _check_metadata(metadata, name=name, samples=samples, path=dataset / NAME)
    chunks = [
        np.frombuffer(read_checked(dataset, f"{NAME}/{name}/c/{number}", files), DTYPES[name])
        for number in range(-(-samples // CHUNK_LENGTH))
    ]
    return np.concatenate(chunks)[:samples]


def read_checked(dataset: Place, name: str, files: Mapping[str, str]) -> bytes:
    """Returns the bytes of file `name` of a dataset, after comparing their SHA-256 with the manifest's."""
    if name not in files:
        raise DatasetError(f"{dataset / name}: the manifest does not list this file")
    try:
        data = (dataset / name).read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{dataset / name}: missing") from None
    except OSError as error:
        raise DatasetError(f"{dataset / name}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != files[name]:
        raise DatasetError(
            f"{dataset / name}: changed, SHA-256 is {digest[:12]}…, the manifest says {files[name][:12]}…"
        )
    return data


def _check_metadata(metadata: bytes, *, name: str, samples: int, path: Place) -> None:
    """The hash proves that the file is as written; this proves that it was written as `read_table` assumes."""
    parts: dict[str, Any] = json.loads(metadata)
    found = (
        parts["shape"],
        parts["data_type"],
        parts["chunk_grid"]["configuration"]["chunk_shape"],
        len(parts["codecs"]),
    )
    expected = ([samples], np.dtype(DTYPES[name]).name, [CHUNK_LENGTH], 1)
    if found != expected:
        raise DatasetError(f"{path}: column {name} must be (shape, type, chunks, codecs) {expected}, got {found}")
