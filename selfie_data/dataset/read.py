"""Samples read back on the CPU, slowly and plainly: stored bytes -> stored image -> what evaluation sees of it.

For the pixel store and the contact sheets; trainers read through `pipelines`.
"""

import os
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.opened import Dataset
from selfie_data.errors import CorruptSampleError, DatasetError, ImageError
from selfie_data.images.decode import decode_stored
from selfie_data.images.resize import evaluation_view

Pixels = NDArray[np.uint8]


def read_payloads(dataset: Dataset, ids: range | NDArray[np.int64]) -> list[bytes]:
    """Returns the stored bytes of samples in ascending order of id, checked.

    Each shard is read in one piece from its first to its last sample of `ids`: meant for ids that are close together.

    Raises:
        CorruptSampleError: bytes are missing or changed.
    """
    wanted, payloads = np.asarray(ids), list[bytes]()
    rows = dataset.rows(wanted)
    for shard in np.unique(rows.shard).tolist():
        samples = np.flatnonzero(rows.shard == shard)
        first, last = int(rows.offset[samples].min()), int((rows.offset[samples] + rows.length[samples]).max())
        data = _read(dataset, shard, first, last - first)
        for row in samples.tolist():
            offset = int(rows.offset[row]) - first
            payload = data[offset : offset + int(rows.length[row])]
            if google_crc32c.value(payload) != int(rows.crc32c[row]):
                raise corrupt_sample(dataset, int(wanted[row]), "the checksum does not match")
            payloads.append(payload)
    return payloads


def decode_payload(dataset: Dataset, sample: int, payload: bytes | Pixels) -> Pixels:
    """Returns the stored image, uint8 [H, W, 3]; raw pixels are not copied.

    Raises:
        CorruptSampleError: the bytes are no image of the size that the table says.
    """
    row = dataset.rows(np.array([sample]))
    try:
        return decode_stored(payload, encoding=dataset.encoding, height=int(row.height[0]), width=int(row.width[0]))
    except ImageError as error:
        raise corrupt_sample(dataset, sample, str(error)) from error


def central_view(dataset: Dataset, sample: int, payload: bytes, *, as_stored: bool) -> Pixels:
    """Returns what evaluation sees of a sample, uint8 [S, S, 3]: with `as_stored` the image itself.

    Raises:
        CorruptSampleError: the bytes are no image of the size that the table says.
    """
    image = decode_payload(dataset, sample, payload)
    return image if as_stored else evaluation_view(image, dataset.image_size)


def stored_at_size(dataset: Dataset) -> bool:
    """Says whether every image is stored at S x S, so that nothing is left to resize."""
    size, sizes = dataset.image_size, dataset.sizes
    return {*sizes.height, *sizes.width} == {size}


def corrupt_sample(dataset: Dataset, sample: int, reason: str) -> CorruptSampleError:
    """Returns the error for one sample; says where it lies and what can be done about it."""
    row = dataset.rows(np.array([sample]))
    return CorruptSampleError(
        f"{reason}; restore the shard, or leave the sample out with exclude=[{sample}]",
        shard=dataset.manifest.shards[int(row.shard[0])].name,
        offset=int(row.offset[0]),
        key=dataset.key(sample),
    )


def _read(dataset: Dataset, shard: int, start: int, length: int) -> bytes:
    path = dataset.path / dataset.manifest.shards[shard].name
    try:
        if not isinstance(path, Path):
            return path.read_range(start, length)
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, start)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
