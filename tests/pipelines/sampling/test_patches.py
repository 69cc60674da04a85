"""What a batch of patches holds: any split, any patch size, rules of one's own, hidden patches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.normalise import normalise
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.grid import Grid, patchify
from pipelines.sampling.selection import block_targets
from tests.pipelines.streams import assert_equal_batches, patches


@pytest.mark.parametrize(("context", "target"), [(12, 4), (1, 15), (15, 1), (1, 1), (5, 7)])
def test_any_split(raw_shards: Path, context: int, target: int) -> None:
    batch = next(iter(patches(raw_shards, context=context, target=target)))
    assert batch.context.shape == (16, context, 8, 8, 3)
    assert batch.target.shape == (16, target, 8, 8, 3)
    for row in range(16):
        seen, hidden = batch.context_position[row].tolist(), batch.target_position[row].tolist()
        assert len({*seen, *hidden}) == context + target
        assert [cell for cell in range(16) if not batch.mask[row, cell]] == sorted(seen)


@pytest.mark.parametrize(("patch_size", "expected"), [(None, (12, 4)), (4, (48, 16)), (16, (3, 1))])
def test_any_patch_size_and_its_default_split(
    raw_shards: Path, patch_size: int | None, expected: tuple[int, int]
) -> None:
    with patches(raw_shards, patch_size=patch_size) as loader:
        batch = next(iter(loader))
    assert (batch.context.shape[1], batch.target.shape[1]) == expected
    assert loader.grid.patch_size == (patch_size or 8)


def test_a_rule_of_ones_own_picks_the_patches(raw_shards: Path) -> None:
    loader = patches(raw_shards, context=6, target=4, selection=block_targets(context=6, height=2, width=2))
    for batch in loader:
        row, column = np.divmod(batch.target_position.numpy(), 4)
        assert (np.ptp(row, axis=1) == 1).all()
        assert (np.ptp(column, axis=1) == 1).all()


def test_a_rule_that_repeats_a_cell_is_refused(raw_shards: Path) -> None:
    def rule(order: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
        return order[:, [0, 0]]

    with pytest.raises(ValueError, match="distinct cells"):
        next(iter(patches(raw_shards, context=1, target=1, selection=rule)))


def test_masking_zero_gives_the_full_grid_with_holes_and_then_the_targets(raw_shards: Path) -> None:
    for skip, zero in zip(patches(raw_shards), patches(raw_shards, masking="zero"), strict=True):
        assert zero.context_count == 16
        assert zero.patches.shape == (16, 20, 8, 8, 3)
        assert torch.equal(zero.target, skip.target)
        assert torch.equal(zero.target_position, skip.target_position)
        assert torch.equal(zero.mask, skip.mask)
        assert (zero.context_position == torch.arange(16)).all()
        assert torch.equal(zero.mask.gather(1, zero.context_position), zero.mask)
        assert not zero.context[zero.mask].any()
        for row in range(16):
            for slot, cell in enumerate(skip.context_position[row].tolist()):
                assert torch.equal(zero.context[row, cell], skip.context[row, slot])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("masking", ["skip", "zero"])
def test_floats_are_the_normalised_bytes_and_holes_are_zero_after_that(
    raw_shards: Path, dtype: str, masking: str
) -> None:
    loader = patches(raw_shards, masking=masking, dtype=dtype, whole_image=True)
    for whole, floats in zip(patches(raw_shards, masking=masking, whole_image=True), loader, strict=True):
        assert floats.image is not None
        assert whole.image is not None
        for bytes_, ours in ((whole.patches, floats.patches), (whole.image, floats.image)):
            assert ours.dtype == getattr(torch, dtype)
            assert ours.is_contiguous()  # [..., H, W, 3]: channels last
            expected = torch.from_numpy(normalise(bytes_.numpy(), loader.normalisation)).to(ours.dtype)
            blank = ~ours.any(dim=-1, keepdim=True)
            assert torch.equal(ours, torch.where(blank, torch.zeros_like(expected), expected))
        if masking == "zero":
            assert not floats.context[floats.mask].any()


def test_the_whole_image_has_its_hidden_patches_blanked(raw_shards: Path) -> None:
    loader = patches(raw_shards, whole_image=True, seed=3)
    for batch in loader:
        assert batch.image is not None
        cut = torch.from_numpy(patchify(batch.image.numpy(), 8))
        assert not cut[batch.mask].any()
        for row in range(len(batch)):
            assert torch.equal(cut[row, batch.context_position[row]], batch.context[row])
    assert next(iter(patches(raw_shards))).image is None


def test_an_evaluation_hides_the_same_patches_in_every_epoch(raw_shards: Path) -> None:
    loader = patches(raw_shards, evaluation=True)
    for left, right in zip(list(loader), list(loader), strict=True):
        assert_equal_batches(left, right)


@pytest.mark.parametrize("antialias", [True, False])
def test_a_random_resized_crop_of_small_images_is_an_option(raw_shards: Path, antialias: bool) -> None:
    loader = patches(raw_shards, augment=Augmentation(flip=True, crop_area=(0.64, 1)), antialias=antialias)
    plain = patches(raw_shards)
    differing = [not torch.equal(left.patches, right.patches) for left, right in zip(loader, plain, strict=True)]
    assert all(differing)
