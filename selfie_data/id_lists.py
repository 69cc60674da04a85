"""Lists of sample ids in files: `.npy`, or text with an id a line and comments after #."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def parse_ids(lines: Iterable[str]) -> Ids:
    """Returns the ids of lines of text, int64 [B] in their order.

    Raises:
        ValueError: one is no id: up to 18 decimal digits.
    """
    words = [word for line in lines if (word := line.split("#")[0].strip())]
    if wrong := [word for word in words if not re.fullmatch("[0-9]{1,18}", word)]:
        raise ValueError(f"{wrong[0]!r} is no id")
    return np.array([int(word) for word in words], np.int64)


def load_ids(path: Path) -> Ids:
    """Returns the ids of an .npy file, int64 [B] in their order.

    Raises:
        OSError, EOFError: it cannot be read.
        ValueError: it holds anything but integers in one dimension, or one beyond int64.
    """
    values: NDArray[np.integer] = np.load(path, allow_pickle=False)
    if values.size and (values.ndim != 1 or not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"{values.dtype} {list(values.shape)} is no list of integers")
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{values.max()} is no id")
    return values.astype(np.int64).reshape(-1)


def encode_ids(ids: Ids) -> bytes:
    """Returns sample ids [B] as a NumPy file (version 1.0) of int64."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, ids.astype("<i8", copy=False), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_ids(data: bytes, total: int) -> Ids:
    """Returns the ids of such a file's bytes, int64 [B], ascending.

    Raises:
        ValueError: not that, or beyond [0, total).
    """
    ids: Ids = np.load(io.BytesIO(data), allow_pickle=False)
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise ValueError(f"must be int64 ids, got {ids.dtype} {list(ids.shape)}")
    if len(ids) and not (ids[0] >= 0 and ids[-1] < total and (ids[1:] > ids[:-1]).all()):
        raise ValueError(f"must be int64 ids in [0, {total}), sorted, each once")
    return ids
