"""What a batch of whole images holds."""

from pathlib import Path

import numpy as np
import torch

from tests.pipelines.conftest import random_images
from tests.pipelines.streams import images


def test_finetuning_pads_crops_and_flips(raw_shards: Path) -> None:
    pictures = np.pad(random_images(50), ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = set()
    for batch in images(raw_shards, seed=9):
        for sample, label, image in zip(
            batch.sample_id.tolist(), batch.label.tolist(), batch.image.numpy(), strict=True
        ):
            assert label == sample % 4
            found = [
                (top, left, flip)
                for flip in (False, True)
                for top in range(9)
                for left in range(9)
                if (pictures[sample, top : top + 32, left : left + 32] == (image[:, ::-1] if flip else image)).all()
            ]
            assert len(found) == 1
            places.add(found[0])
    assert len(places) > 30


def test_evaluation_of_small_images_changes_nothing(raw_shards: Path) -> None:
    batches = list(images(raw_shards, evaluation=True))
    assert (torch.cat([batch.image for batch in batches])[:50].numpy() == random_images(50)).all()
    assert not batches[-1].image[2:].any()
