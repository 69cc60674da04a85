"""Loaders on the CPU as tests make them, what they gave, and what two of them must agree in."""

from collections.abc import Iterable
from pathlib import Path

import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import ImageBatch, PatchBatch


def assert_same_stream(left: PatchLoader | ImageLoader, right: PatchLoader | ImageLoader) -> None:
    """Goes through one epoch of both: equal ids and equal tensors, to the bit."""
    assert left.state_dict() == right.state_dict()
    for ours, theirs in zip(left, right, strict=True):
        names = ("patches", "position", "mask") if isinstance(ours, PatchBatch) else ("image", "label")
        if isinstance(ours, PatchBatch) and ours.target_cells is not None:
            names += ("context_cells", "context_valid", "target_cells", "target_valid")
        for name in (*names, "sample_id"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        if isinstance(ours, PatchBatch) and ours.image is not None:
            assert torch.equal(ours.image, theirs.image)


def patches(shards: Path, *, batch: int = 16, backend: str = "reference", **options: object) -> PatchLoader:
    return PatchLoader(shards, global_batch_size=batch, backend=backend, device="cpu", **options)


def images(shards: Path, *, batch: int = 16, backend: str = "reference", **options: object) -> ImageLoader:
    return ImageLoader(shards, global_batch_size=batch, backend=backend, device="cpu", **options)


def ids_of(batches: Iterable[PatchBatch | ImageBatch]) -> list[int]:
    return [sample for batch in batches for sample in batch.sample_id.tolist()]


def assert_equal_batches(left: PatchBatch, right: PatchBatch) -> None:
    assert left.context_count == right.context_count
    for name in ("patches", "position", "mask", "sample_id"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name
    assert (left.image is None) == (right.image is None)
    if left.image is not None and right.image is not None:
        assert torch.equal(left.image, right.image)
