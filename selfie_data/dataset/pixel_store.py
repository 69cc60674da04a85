"""The pixel store: a dataset decoded once, uint8 [N, S, S, 3] in order of sample id, a zarr v3 group.

    STORE.zarr/images   uint8 [N, S, S, 3]    chunks of whole images, 8 MiB, uncompressed, each with its CRC32C
    STORE.zarr/labels   int32 [N]             -1 = none
    attributes          fingerprint of the dataset it was made from, class names, statistics, a digest of all that

Raw images are stored as they are; others as evaluation sees them: shorter side to S * 8 / 7, central S x S. The store
is loaded whole into memory and indexed there, which no reader of single images can beat.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import Pixels, central_view, read_payloads, stored_at_size
from selfie_data.errors import BuildError, DatasetError
from selfie_data.files import publish_tree

if TYPE_CHECKING:
    from zarr.core.array_spec import ArrayConfigParams

SCHEMA = 1
CHUNK_BYTES = 8 << 20  # random access is not what it is for: large chunks read at the speed of the disk
_CRC_BYTES = 4
_PIECE_BYTES = 256 << 10  # read, checked and copied while it is in the cache

Progress = Callable[[int], object]
"""Called with the number of images written since the last call."""


class PixelStore(NamedTuple):
    """A loaded store: images uint8 [N, S, S, 3], labels int32 [N], and the fingerprint of the dataset it is of."""

    images: Pixels
    labels: NDArray[np.int32]
    fingerprint: str


def export_store(dataset: Dataset, path: Path, *, workers: int | None = None, progress: Progress | None = None) -> bool:
    """Writes the store of a dataset to `path`, which is not there until it is whole. Interrupted, it starts again.

    Returns:
        False if the store of this very dataset was there already.

    Raises:
        BuildError: something else is at `path`, or it cannot be written.
        CorruptSampleError: a sample of the dataset is not what was written.
    """
    dataset.refuse_inside(path)
    if path.exists():
        if not (path / "zarr.json").exists():
            raise BuildError(f"{path}: is there and is no pixel store; choose another name")
        found = _attributes(path)["fingerprint"]
        if found != dataset.fingerprint:
            raise BuildError(f"{path}: holds the pixels of dataset {found[:12]}…, not of {dataset.fingerprint[:12]}…")
        return False
    scratch = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        _check_space(dataset, path.parent)
        _write(dataset, scratch, workers=workers or len(os.sched_getaffinity(0)), progress=progress)
        publish_tree(scratch, path)
    except OSError as error:
        raise BuildError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def load_store(path: Path | str, *, threads: int | None = None) -> PixelStore:
    """Reads a store into memory, checking every byte.

    Args:
        path: of the store.
        threads: that read; None = the cores this process may use.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    directory = Path(path)
    attributes = _attributes(directory)
    workers = threads or len(os.sched_getaffinity(0))
    shape = (attributes["samples"], attributes["image_size"], attributes["image_size"], 3)
    images = _read_array(directory / "images", shape, "uint8", workers)
    labels = _read_array(directory / "labels", shape[:1], "int32", workers)
    return PixelStore(images, labels.astype(np.int32, copy=False), attributes["fingerprint"])


def check_store(path: Path | str, dataset: Dataset) -> None:
    """Checks, without reading any pixels, that a store is there and is of this dataset.

    Raises:
        DatasetError: there is none, or it is damaged, or of another dataset.
    """
    fingerprint = _attributes(Path(path))["fingerprint"]
    if fingerprint != dataset.fingerprint:
        raise DatasetError(
            f"{path}: holds the pixels of dataset {fingerprint[:12]}…, the shards are {dataset.fingerprint[:12]}…; "
            "export the store again"
        )


def _write(dataset: Dataset, scratch: Path, *, workers: int, progress: Progress | None) -> None:
    import zarr  # half a second, and only here
    from zarr.codecs import Crc32cCodec

    size, samples = dataset.image_size, len(dataset)
    rows = min(samples, max(1, CHUNK_BYTES // (size * size * 3)))
    group = zarr.create_group(scratch, attributes=_sealed(dataset))
    codec = [Crc32cCodec()]
    keep_empty: ArrayConfigParams = {"write_empty_chunks": True}
    labels = group.create_array(
        "labels", shape=(samples,), chunks=(samples,), dtype="int32", compressors=codec, config=keep_empty
    )
    labels[:] = dataset.labels
    shape = (size, size, 3)
    images = group.create_array(
        "images", shape=(samples, *shape), chunks=(rows, *shape), dtype="uint8", compressors=codec, config=keep_empty
    )
    block = np.empty((rows, *shape), dtype=np.uint8)
    as_stored = stored_at_size(dataset)

    def fill(row: int, sample: int, payload: bytes) -> None:
        block[row] = central_view(dataset, sample, payload, as_stored=as_stored)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, samples, rows):
            stop = min(start + rows, samples)
            ids = dataset.live(np.arange(start, stop))
            block[:] = 0
            list(pool.map(fill, (ids - start).tolist(), ids.tolist(), read_payloads(dataset, ids)))
            images[start:stop] = block[: stop - start]
            if progress:
                progress(stop - start)


def _sealed(dataset: Dataset) -> dict[str, Any]:
    attributes = {
        "schema": SCHEMA,
        "fingerprint": dataset.fingerprint,
        "samples": len(dataset),
        "image_size": dataset.image_size,
        "class_names": list(dataset.class_names),
        "mean": list(dataset.manifest.mean),
        "std": list(dataset.manifest.std),
    }
    return {**attributes, "digest": _digest(attributes)}


def _digest(attributes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


def _attributes(path: Path) -> dict[str, Any]:
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        digest = attributes.pop("digest")
        newer = attributes["schema"] > SCHEMA
    except FileNotFoundError:
        raise DatasetError(f"{path}: no pixel store; make one with `selfie-data export-store`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: not a pixel store, or damaged ({error})") from error
    if newer:
        raise DatasetError(f"{path}: schema {attributes['schema']} is newer than this version reads ({SCHEMA})")
    if digest != _digest(attributes):
        raise DatasetError(f"{path / 'zarr.json'}: damaged, the digest does not match")
    return dict(attributes)


def _read_array(path: Path, shape: tuple[int, ...], dtype: str, workers: int) -> NDArray[Any]:
    """Reads chunks straight into place: zarr itself would hold every byte twice."""
    try:
        metadata = json.loads((path / "zarr.json").read_bytes())
        found = (tuple(metadata["shape"]), metadata["data_type"], [codec["name"] for codec in metadata["codecs"]])
        chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not an array of a pixel store, or damaged ({error})") from error
    if found != (shape, dtype, ["bytes", "crc32c"]) or tuple(chunk[1:]) != shape[1:] or chunk[0] < 1:
        raise DatasetError(
            f"{path}: must be {dtype} {list(shape)} with CRC32C, got {found[1]} {list(found[0])}, {found[2]}"
        )
    kind = np.dtype(dtype).newbyteorder("<")
    needed = math.prod(shape) * kind.itemsize
    array = np.empty(needed, np.uint8).view(kind).reshape(shape)
    rows = int(chunk[0])
    with ThreadPoolExecutor(workers) as pool:
        names = [path / "c" / "/".join([str(n), *["0"] * (len(shape) - 1)]) for n in range(-(-shape[0] // rows))]
        parts = [array[start : start + rows] for start in range(0, shape[0], rows)]
        list(pool.map(lambda name, part: _read_chunk(name, part, rows), names, parts))
    return array


def _read_chunk(path: Path, part: NDArray[Any], rows: int) -> None:
    """Fills `part` from a chunk file; the last chunk goes on with rows that are not of the array."""
    target = part.reshape(-1).view(np.uint8)
    expected, done, checksum = part.nbytes // len(part) * rows, 0, 0
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected + _CRC_BYTES:
                raise DatasetError(f"{path}: {size} bytes where {expected + _CRC_BYTES} are expected")
            while done < expected and (piece := file.read(min(_PIECE_BYTES, expected - done))):
                checksum = google_crc32c.extend(checksum, piece)
                kept = np.frombuffer(piece, np.uint8)[: max(0, len(target) - done)]
                target[done : done + len(kept)] = kept
                done += len(piece)
            stored = file.read(_CRC_BYTES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    if done != expected or checksum.to_bytes(_CRC_BYTES, "little") != stored:
        raise DatasetError(f"{path}: damaged, its checksum does not match")


def _check_space(dataset: Dataset, directory: Path) -> None:
    needed = len(dataset) * dataset.image_size**2 * 3
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BuildError(f"{directory}: {free / 1e9:.1f} GB are free, the store needs {needed / 1e9:.1f} GB")
