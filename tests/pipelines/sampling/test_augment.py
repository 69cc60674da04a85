"""Presets, and what is drawn for an augmentation."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.sampling.augment import Augmentation, ImageDraw, evaluation_crop, resolve_augmentation
from selfie_data.dataset.opened import open_dataset


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("pretrain", 32, Augmentation(flip=True)),
        ("pretrain", 224, Augmentation(flip=True, crop_area=(0.2, 1.0))),
        ("finetune", 32, Augmentation(flip=True, padding=4)),
        ("finetune", 224, Augmentation(flip=True, crop_area=(0.08, 1.0))),
        ("none", 224, Augmentation()),
    ],
)
def test_presets(name: str, size: int, expected: Augmentation) -> None:
    assert resolve_augmentation(name, size) == expected


def test_unknown_presets_and_impossible_augmentations_are_refused() -> None:
    with pytest.raises(ValueError, match="augment must be"):
        resolve_augmentation("strong", 32)
    with pytest.raises(ValueError, match="crop_area must be"):
        Augmentation(crop_area=(0.5, 1.5))
    with pytest.raises(ValueError, match="without crop_area"):
        Augmentation(crop_area=(0.5, 1.0), padding=4)


def test_padding_moves_the_window_by_up_to_the_padding(raw_shards: Path) -> None:
    dataset, augmentation = open_dataset(raw_shards), Augmentation(flip=True, padding=4)
    draw = ImageDraw(dataset=dataset, augmentation=augmentation, seed=1, evaluation=False)
    crop, resize, window, flip = draw.geometry(0, np.arange(500))
    assert crop is None
    assert resize is None
    assert window is not None
    assert flip is not None
    assert (window.min(), window.max()) == (-4, 4)
    assert 150 < flip.sum() < 350


@pytest.mark.parametrize(
    "options",
    [
        {"flip": "yes"},
        {"crop_area": 0.5},
        {"crop_area": (1,)},
        {"crop_area": (0.0, 1.0)},
        {"crop_area": (0.5, 0.2)},
        {"crop_area": (0.5, 1.5)},
        {"padding": 1.5},
        {"padding": -1},
    ],
    ids=str,
)
def test_what_is_no_augmentation_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation(**options)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 333), (500, 375), (224, 224), (231, 1000)])
def test_evaluation_crop_rounds_as_torchvision(height: int, width: int) -> None:
    """The rules of torchvision 0.2x: Resize int(256 * long / short), CenterCrop int(round((side - 224) / 2.0))."""
    resize, window = evaluation_crop(np.array([height]), np.array([width]), 224)
    shorter, longer = sorted((height, width))
    expected = (256, int(256 * longer / shorter)) if height <= width else (int(256 * longer / shorter), 256)
    assert tuple(resize[0]) == expected
    assert tuple(window[0]) == tuple(int(round((side - 224) / 2.0)) for side in expected)  # noqa: RUF046
