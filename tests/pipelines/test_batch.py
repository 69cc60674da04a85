"""The batches: views, splitting."""

import pytest
import torch

from pipelines.batch import ImageBatch
from tests.selfie_model.memory import patch_batch, small_config


def test_context_and_target_are_views_of_the_patches() -> None:
    config = small_config()
    batch = patch_batch(config)
    assert batch.context.shape[1] == config.model.context
    assert batch.target.shape[1] == config.model.target
    assert batch.context.data_ptr() == batch.patches.data_ptr()
    assert torch.equal(torch.cat((batch.context_position, batch.target_position), dim=1), batch.position)


@pytest.mark.parametrize("parts", [1, 2, 4, 6])
def test_split_keeps_every_image_once_and_in_order(parts: int) -> None:
    batch = patch_batch(small_config())
    pieces = batch.split(parts)
    assert len(pieces) == parts
    assert torch.equal(torch.cat([piece.patches for piece in pieces]), batch.patches)
    assert torch.equal(torch.cat([piece.mask for piece in pieces]), batch.mask)
    assert torch.equal(torch.cat([piece.sample_id for piece in pieces]), batch.sample_id)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_split_of_images_keeps_labels_with_their_image() -> None:
    batch = ImageBatch(
        image=torch.arange(5).view(5, 1, 1, 1).expand(5, 2, 2, 3), label=torch.arange(5), sample_id=torch.arange(5)
    )
    for piece in batch.split(2):
        assert torch.equal(piece.image[:, 0, 0, 0], piece.label)


@pytest.mark.parametrize("parts", [0, 7])
def test_split_refuses_empty_parts(parts: int) -> None:
    with pytest.raises(ValueError, match=f"6 images cannot be cut into {parts} parts"):
        patch_batch(small_config()).split(parts)


def test_moving_to_the_same_device_copies_nothing() -> None:
    batch = patch_batch(small_config())
    assert batch.to("cpu").patches is batch.patches
