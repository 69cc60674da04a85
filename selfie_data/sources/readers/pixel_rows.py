"""Batches as CIFAR and downsampled ImageNet store them: rows of pixels, all red first, which are turned into images."""

import math
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from selfie_data.errors import SourceError
from selfie_data.sources.readers.pickles import load_dict
from selfie_data.sources.readers.spool import Part

_ROWS_AT_ONCE = 4096  # 12 MB at 32 px


def read_batch(stream: BinaryIO, size: int, *, column: str, label: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns the rows, uint8 [n, 3·S·S], and the labels, int64 [n], of a pickled batch.

    Args:
        stream, size, label: see `load_pickle`.
        column: what the batch calls the labels.
    """
    batch = load_dict(stream, size, label=label)
    rows = _check_rows(batch.get("data"), label=label)
    return rows, integer_labels(batch.get(column), len(rows), label=label)


def pixel_part(
    key: str, labels: NDArray[np.int64], row_bytes: int, payload: Iterator[NDArray[np.uint8]], *, digits: int
) -> Part:
    """Makes a part of images of `row_bytes` bytes each, called KEY/NUMBER with so many digits."""
    return Part(
        key=key,
        names=[f"{key}/{number:0{digits}d}" for number in range(len(labels))],
        labels=labels,
        lengths=np.full(len(labels), row_bytes, dtype=np.int64),
        payload=payload,
    )


def _check_rows(data: object, *, label: str) -> NDArray[np.uint8]:
    """Returns `data` if it is uint8 [n, 3·S·S]; SourceError otherwise."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2:
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else type(data).__name__
        raise SourceError(f"{label}: data must be uint8 [images, 3·S·S], got {found}")
    side_of(data.shape[1], label=label)
    return data


def side_of(row_bytes: int, *, label: str) -> int:
    """Returns S for rows of 3·S·S bytes."""
    side = math.isqrt(row_bytes // 3)
    if side == 0 or 3 * side * side != row_bytes:
        raise SourceError(f"{label}: rows of {row_bytes} bytes are no square RGB images")
    return side


def interleave(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turns planar rows, uint8 [n, 3·S·S], into images, uint8 [n, S, S, 3], contiguous."""
    side = math.isqrt(rows.shape[1] // 3)
    return np.ascontiguousarray(rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))


def interleaved_pieces(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yields `interleave(rows)` in pieces, so that a large batch is never held twice."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield interleave(rows[start : start + _ROWS_AT_ONCE])


def integer_labels(values: object, count: int | None, *, label: str) -> NDArray[np.int64]:
    """Returns one integer label an image as int64 [count], any number if that is None; SourceError for other things."""
    array = _as_array(values)
    if array is None or array.ndim == 0:
        raise SourceError(f"{label}: labels must be a list of integers, got {type(values).__name__}")
    if array.ndim > 1:
        raise SourceError(f"{label}: an image has several labels; one class an image is supported")
    if array.dtype.kind not in "iu" and array.size:
        raise SourceError(f"{label}: labels must be integers, got {array.dtype}")
    if count is not None and len(array) != count:
        raise SourceError(f"{label}: {len(array)} labels for {count} images")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << 20):
        raise SourceError(f"{label}: labels must be in [0, 2**20), got {int(array.min())} to {int(array.max())}")
    return array.astype(np.int64)


def _as_array(values: object) -> NDArray[np.generic] | None:
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list):
        return None
    if any(isinstance(value, list | tuple) for value in values):
        return np.empty((len(values), 2), dtype=np.int64)
    if not all(isinstance(value, int | float | np.number) for value in values):
        return None
    try:
        return np.array(values) if values else np.empty(0, dtype=np.int64)
    except OverflowError:
        return None
