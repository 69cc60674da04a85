"""What a backend is asked for and what it hands back: the one interface between a loader and the four backends.

A loader turns (seed, epoch, sample ids) into a `BatchPlan` of small integer arrays; a backend turns the plan into
tensors. A backend draws nothing and knows nothing of ranks, epochs or order, so equal plans give equal tensors.

What a backend does to every sample, in this order:

    stored image [H, W, 3] uint8
      crop      the integer rectangle (top, left, height, width)           None: the whole image
      resize    to (height, width): Pillow's antialiased BILINEAR          None: no resampling
      window    S x S pixels from (top, left), which may overhang: zeros   None: from (0, 0)
      flip      mirrored left to right where `flip`
      -> image [S, S, 3] uint8; all four only move or average bytes, so this much is exact on every backend but DALI's
      position  patches [N, p, p, 3] gathered from the image's grid        None: no patches are wanted
      dtype     uint8 as it is, or float32(x) * scale + bias, then rounded to the dtype
      hidden    zeros in patch slots where `hidden`, in the whole image's cells where `mask`: zero *after* normalising

The resize of a crop reads pixels of the crop only (`Image.crop(...).resize(...)`), never of its surroundings, and works
along the width first, then along the height, with bytes in between (`selfie_data.images.resize`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.sampling.blocks import CellSets

Verify = Literal["first", "always", "never"]
Decode = Literal["mixed", "cpu"]
Dtype = Literal["uint8", "float32", "float16", "bfloat16"]

TORCH_DTYPE: dict[Dtype, torch.dtype] = {
    "uint8": torch.uint8,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """One rank's slice of one step: b real samples, b >= 1. Padding of evaluations never reaches a backend.

    Attributes:
        epoch: for messages only; everything random is already drawn.
        step: for messages only.
        sample_id: [b] int64, >= 0, rows of the sample table.
        crop: [b, 4] int64 (top, left, height, width) inside the stored image; None = the whole image.
        resize: [b, 2] int64 (height, width) of the crop after resampling; None = not resampled. If None, every crop
            (or stored image) of the batch may be of another size; `window` still takes S x S of it.
        window: [b, 2] int64 (top, left) of the S x S result in the resampled crop. May be negative or overhang on
            any side (padded crops); pixels outside are 0. None = (0, 0).
        flip: [b] bool; None = nothing is flipped.
        position: [b, N] int64, row-major grid cells in output order, context first; a cell may stand twice (masking
            `zero`: the full grid, then the targets). None = no patches wanted.
        hidden: [b, N] bool, patch slots that are zero; None = none.
        mask: [b, G] bool, True = hidden: cells of the whole image, if that is wanted, that are zero; None = none.
        cell_sets: which of the patches which encoder sees: for the batch, no backend looks; None = said by `position`.
    """

    epoch: int
    step: int
    sample_id: NDArray[np.int64]
    crop: NDArray[np.int64] | None = None
    resize: NDArray[np.int64] | None = None
    window: NDArray[np.int64] | None = None
    flip: NDArray[np.bool_] | None = None
    position: NDArray[np.int64] | None = None
    hidden: NDArray[np.bool_] | None = None
    mask: NDArray[np.bool_] | None = None
    cell_sets: "CellSets | None" = None

    def __len__(self) -> int:
        return len(self.sample_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """What all batches of a loader have in common.

    Attributes:
        image_size: S, side of the image the model sees, in pixels.
        batch_size: the largest b a plan of this loader has (for buffers).
        patch_size: p; None = no patches, `BatchPlan.position` is None.
        patch_count: N, patches an image in the output; 0 without patches.
        whole_image: whether the [b, S, S, 3] image is wanted too (always, without patches).
        dtype: of patches and image.
        scale: [3] float32; a float output is float32(x) * scale + bias, two roundings, no fused multiply-add.
        bias: [3] float32.
        antialias: False = plain bilinear, faster; the reference has it too (see `reference.py`).
    """

    image_size: int
    batch_size: int
    patch_size: int | None = None
    patch_count: int = 0
    whole_image: bool = False
    dtype: Dtype = "uint8"
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    antialias: bool = True

    @property
    def torch_dtype(self) -> torch.dtype:
        return TORCH_DTYPE[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOutput:
    """Tensors of one plan, on the backend's device.

    Attributes:
        patches: [b, N, p, p, 3] of the spec's dtype; None if no patches are wanted.
        image: [b, S, S, 3] of the spec's dtype, hidden cells zero; None if not wanted.
    """

    patches: Tensor | None = None
    image: Tensor | None = None


class Backend(Protocol):
    """Turns plans into tensors, in order. Built as

        SomeBackend(dataset, spec, device=torch.device, verify=Verify, threads=int, prefetch=int)

    `verify` says when a payload's CRC32C is checked: the first time a sample is read by this backend, always, never.
    Errors of a plan (CorruptSampleError, DatasetError, OSError as DatasetError) come out of its `result`.
    """

    def submit(self, plan: BatchPlan) -> None:
        """Starts work on `plan` and returns at once. At most `prefetch` plans are outstanding."""
        ...

    def result(self) -> BackendOutput:
        """Waits for and returns the oldest outstanding plan's tensors.

        They stay valid and unchanged as long as anybody holds one of them or a view (`buffers.BufferPool`).
        """
        ...

    def close(self) -> None:
        """Frees threads, files and buffers; outstanding plans are dropped. May be called twice."""
        ...
