"""Output memory that is reused, but never while anybody still looks at it.

Filling fresh memory is up to ten times slower than filling memory that was touched before (page faults). A tensor made
by `torch.from_numpy` keeps a reference to its array for as long as the tensor or any view of it lives, so the array's
reference count says whether a batch is still in use: no promise has to be made about when batches may be kept.
"""

import math
import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.batch_plan import Dtype

_NUMPY_DTYPE: dict[Dtype, type[np.generic]] = {
    "uint8": np.uint8,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,  # NumPy has no bfloat16; the bits are viewed as such by torch
}


Allocate = Callable[[int], Tensor]


def _references(arrays: list[NDArray[np.uint8]], place: int) -> int:
    return sys.getrefcount(arrays[place])


_IDLE_REFERENCES = _references([np.empty(0, np.uint8)], 0)  # counted, not written down: versions of Python differ


def _ordinary(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)


class BufferPool:
    """Arrays of up to `batch_size` rows of one shape and dtype.

    Attributes:
        keep: how many arrays are kept for reuse; further ones are made fresh and forgotten.

    Args:
        allocate: gives bytes, uint8; memory that is pinned, where a GPU copies from it.
    """

    def __init__(
        self, *, batch_size: int, row: tuple[int, ...], dtype: Dtype, keep: int, allocate: Allocate = _ordinary
    ) -> None:
        self.keep = keep
        self._allocate = allocate
        self._row = row
        self._dtype: Dtype = dtype
        self._bytes = batch_size * math.prod(row) * np.dtype(_NUMPY_DTYPE[dtype]).itemsize
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self, rows: int) -> NDArray[np.generic]:
        """Returns a contiguous array [rows, *row] with unspecified content that nobody else holds."""
        flat = self._idle()
        dtype = _NUMPY_DTYPE[self._dtype]
        count = rows * math.prod(self._row)
        return flat[: count * np.dtype(dtype).itemsize].view(dtype).reshape(rows, *self._row)

    def tensor(self, array: NDArray[np.generic]) -> Tensor:
        """Returns `array` (from `take`) as a tensor of the pool's dtype, sharing its memory."""
        tensor = torch.from_numpy(array)
        return tensor.view(torch.bfloat16) if self._dtype == "bfloat16" else tensor

    def _idle(self) -> NDArray[np.uint8]:
        for place in range(len(self._arrays)):
            if _references(self._arrays, place) == _IDLE_REFERENCES:
                return self._arrays[place]
        fresh: NDArray[np.uint8] = self._allocate(self._bytes).numpy()
        if len(self._arrays) < self.keep:
            self._arrays.append(fresh)
        return fresh
