"""Samples read back on the CPU, slowly and plainly: stored bytes -> stored image -> what evaluation sees of it.

For the pixel store and the contact sheets; trainers read through `pipelines`.
"""

import io
import os

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from selfie_data.dataset.opened import Dataset
from selfie_data.errors import CorruptSampleError, DatasetError
from selfie_data.images.resize import evaluation_view

Pixels = NDArray[np.uint8]


def read_payloads(dataset: Dataset, ids: range | NDArray[np.int64]) -> list[bytes]:
    """Returns the stored bytes of samples in ascending order of id, checked.

    Each shard is read in one piece from its first to its last sample of `ids`: meant for ids that are close together.

    Raises:
        CorruptSampleError: bytes are missing or changed.
    """
    table, payloads = dataset.table, list[bytes]()
    wanted = np.asarray(ids)
    for shard in np.unique(table.shard[wanted]).tolist():
        samples = wanted[table.shard[wanted] == shard]
        first, last = int(table.offset[samples].min()), int((table.offset[samples] + table.length[samples]).max())
        data = _read(dataset, shard, first, last - first)
        for sample in samples.tolist():
            offset = int(table.offset[sample]) - first
            payload = data[offset : offset + int(table.length[sample])]
            if google_crc32c.value(payload) != int(table.crc32c[sample]):
                raise _corrupt(dataset, sample, "the checksum does not match")
            payloads.append(payload)
    return payloads


def decode_payload(dataset: Dataset, sample: int, payload: bytes) -> Pixels:
    """Returns the stored image, uint8 [H, W, 3].

    Raises:
        CorruptSampleError: the bytes are no image of the size that the table says.
    """
    height, width = int(dataset.table.height[sample]), int(dataset.table.width[sample])
    if dataset.encoding == "raw":
        return np.frombuffer(payload, np.uint8).reshape(height, width, 3)
    try:
        with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as image:
            if image.size != (width, height):
                raise _corrupt(dataset, sample, f"{image.height} x {image.width}, the table says {height} x {width}")
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _corrupt(dataset, sample, f"cannot be decoded ({error})") from error


def central_view(dataset: Dataset, sample: int, payload: bytes, *, as_stored: bool) -> Pixels:
    """Returns what evaluation sees of a sample, uint8 [S, S, 3]: with `as_stored` the image itself.

    Raises:
        CorruptSampleError: the bytes are no image of the size that the table says.
    """
    image = decode_payload(dataset, sample, payload)
    return image if as_stored else evaluation_view(image, dataset.image_size)


def stored_at_size(dataset: Dataset) -> bool:
    """Says whether every image is stored at S x S, so that nothing is left to resize."""
    size = dataset.image_size
    return bool((dataset.table.height == size).all() and (dataset.table.width == size).all())


def _corrupt(dataset: Dataset, sample: int, reason: str) -> CorruptSampleError:
    shard = dataset.manifest.shards[int(dataset.table.shard[sample])].name
    offset = int(dataset.table.offset[sample])
    return CorruptSampleError(reason, shard=shard, offset=offset, key=dataset.key(sample))


def _read(dataset: Dataset, shard: int, start: int, length: int) -> bytes:
    path = dataset.shard_path(shard)
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, start)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
