"""What a loader hands to the model: the contract between `pipelines` and `selfie_model`.

Words: a *context* patch is seen by the encoder, a *target* patch is hidden and to be put back; the other targets of the
same image are its *distractors*.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchBatch:
    """Patches of B images, context first, so that the patch network takes them all in one call.

    Attributes:
        patches: [B, N, p, p, 3]; uint8 in 0..255, or floats already normalised. The first `context_count` are what
            the encoder sees, the rest are the targets. With masking `skip` the encoder sees the context patches
            only; with `zero` it sees the full grid (`context_count` = G) and the hidden patches are zero.
        position: [B, N] int64, the row-major cell of each patch in the grid, 0..G-1.
        context_count: how many of the N patches the encoder sees.
        mask: [B, G] bool over the grid, True = hidden from the encoder.
        sample_id: [B] int64.
        image: [B, H, W, 3], the whole image with its hidden patches zero; None unless asked for.
        context_cells: [B, C] int64, cells that the context encoder sees, with selection `multiblock`; else None, as are
            the three below. `patches` is then the whole grid, row by row, so that a cell is its own index there.
        context_valid: [B, C] bool, False = padding (cell 0).
        target_cells: [B, M, T] int64, the cells of M target blocks.
        target_valid: [B, M, T] bool, False = padding (cell 0).
    """

    patches: Tensor
    position: Tensor
    context_count: int
    mask: Tensor
    sample_id: Tensor
    image: Tensor | None = None
    context_cells: Tensor | None = None
    context_valid: Tensor | None = None
    target_cells: Tensor | None = None
    target_valid: Tensor | None = None

    def __len__(self) -> int:
        return self.patches.shape[0]

    @property
    def context(self) -> Tensor:
        """[B, context_count, p, p, 3], a view."""
        return self.patches[:, : self.context_count]

    @property
    def target(self) -> Tensor:
        """[B, N - context_count, p, p, 3], a view."""
        return self.patches[:, self.context_count :]

    @property
    def context_position(self) -> Tensor:
        """[B, context_count] int64, a view."""
        return self.position[:, : self.context_count]

    @property
    def target_position(self) -> Tensor:
        """[B, N - context_count] int64, a view."""
        return self.position[:, self.context_count :]

    def split(self, parts: int) -> list[Self]:
        """Returns the images in `parts` batches of sizes as equal as can be, in order; views."""
        return [_changed(self, itemgetter(rows)) for rows in _slices(len(self), parts)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Returns the batch on `device`; tensors already there are not copied."""
        return _changed(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBatch:
    """B whole images.

    Attributes:
        image: [B, H, W, 3]; uint8 in 0..255, or floats already normalised. Channels last.
        label: [B] int64; -1 where there is none, and for padding.
        sample_id: [B] int64; -1 for padding, which is never counted.
    """

    image: Tensor
    label: Tensor
    sample_id: Tensor

    def __len__(self) -> int:
        return self.image.shape[0]

    def split(self, parts: int) -> list[Self]:
        """Returns the images in `parts` batches of sizes as equal as can be, in order; views."""
        return [_changed(self, itemgetter(rows)) for rows in _slices(len(self), parts)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Returns the batch on `device`; tensors already there are not copied."""
        return _changed(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))


Kind = TypeVar("Kind", bound="PatchBatch | ImageBatch")
BatchT = TypeVar("BatchT", PatchBatch, ImageBatch)
BatchT_co = TypeVar("BatchT_co", PatchBatch, ImageBatch, covariant=True)


class BatchLoader(Protocol[BatchT_co]):
    """What training takes batches from: the loaders of `pipelines`, or batches in memory with these methods.

    Iterating gives this rank's batches from where the loader stands to the end of the epoch; `len` is the number of
    steps of a whole epoch. A state is that of the stream of global batches, after the last batch handed out. Epochs
    are set and states loaded between two iterations only.
    """

    @property
    def normalisation(self) -> Sequence[Any]:
        """Scale and bias, [3] each: what maps 0..255 to the floats of the dataset's statistics."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[BatchT_co]: ...

    def set_epoch(self, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def _slices(length: int, parts: int) -> list[slice]:
    if not 1 <= parts <= length:
        raise ValueError(f"a batch of {length} images cannot be cut into {parts} parts")
    return [slice(part * length // parts, (part + 1) * length // parts) for part in range(parts)]


def _changed(batch: Kind, change: Callable[[Tensor], Tensor]) -> Kind:
    """Returns the batch with every tensor of it changed."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    changed: Any = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(batch, **changed)
