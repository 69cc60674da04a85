"""What two loaders of the same stream must agree in."""

import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import PatchBatch


def assert_same_stream(left: PatchLoader | ImageLoader, right: PatchLoader | ImageLoader) -> None:
    """Goes through one epoch of both: equal ids and equal tensors, to the bit."""
    assert left.state_dict() == right.state_dict()
    for ours, theirs in zip(left, right, strict=True):
        names = ("patches", "position", "mask") if isinstance(ours, PatchBatch) else ("image", "label")
        for name in (*names, "sample_id"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        if isinstance(ours, PatchBatch) and ours.image is not None:
            assert torch.equal(ours.image, theirs.image)
