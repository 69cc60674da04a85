"""Digests of batches: the same for every partition, another for every difference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.batch import PatchBatch
from pipelines.digest import BatchDigest
from pipelines.loader import ImageLoader, PatchLoader


def first(dataset: Path, *, loader: Any = PatchLoader, rank: int = 0, world_size: int = 1, **options: Any) -> Any:
    with loader(
        dataset, global_batch_size=20, rank=rank, world_size=world_size, device="cpu", **{"seed": 3, **options}
    ) as opened:
        return next(iter(opened))


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"selection": "multiblock"}, {"masking": "zero"}])
def test_slices_add_up_to_the_global_batch(raw_dataset: Path, options: dict[str, Any]) -> None:
    whole = BatchDigest.of(first(raw_dataset, **options))
    for world_size in (2, 3, 7):
        slices = [first(raw_dataset, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
        assert BatchDigest.total(torch.tensor([BatchDigest.of(one) for one in slices]).sum(dim=0)) == whole


def test_order_does_not_count_and_everything_else_does(raw_dataset: Path) -> None:
    batch: PatchBatch = first(raw_dataset)
    digest = BatchDigest.of(batch)
    turned = {name: getattr(batch, name).flip(0) for name in ("patches", "position", "mask", "sample_id")}
    assert BatchDigest.of(replace(batch, **turned)) == digest
    patches = batch.patches.clone()
    patches[3, 2, 1, 0, 0] ^= 1
    for other in (
        replace(batch, patches=patches),
        replace(batch, patches=batch.patches.flip(0)),  # the right pictures under the wrong ids
        replace(batch, position=batch.position.roll(1, dims=1)),
        replace(batch, mask=batch.mask.int()),
    ):
        assert BatchDigest.of(other).ids == digest.ids
        assert BatchDigest.of(other).tensors != digest.tensors
    assert BatchDigest.of(first(raw_dataset, seed=4)).ids != digest.ids


def test_images_have_digests_too_and_they_read_as_twelve_digits(raw_dataset: Path) -> None:
    digest = BatchDigest.of(first(raw_dataset, loader=ImageLoader))
    assert {name: len(text) for name, text in digest.hex().items()} == {"ids": 12, "tensors": 12}
    assert digest.ids == BatchDigest.of(first(raw_dataset)).ids
