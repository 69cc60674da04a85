"""What happens to an image before it is cut: which window of it is seen, at which size, mirrored or not.

Presets, for images of S pixels (the paper names none; these are common practice):

              S <= 64                              S > 64
    pretrain  flip                                 random resized crop, area 0.2-1, + flip
    finetune  flip + crop of the 4-pixel-padded    random resized crop, area 0.08-1, + flip
    none      the image as stored                  shorter side to S * 8 / 7 (256 at 224), centre S x S

A padded crop is refused for pretraining: zeros at the edge of a border patch tell where the patch was, and a network
solves the task without seeing anything (57 % on pure noise, where chance is 25 %).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.arguments import whole_number
from pipelines.sampling.draws import draw_crops, draw_flips, draw_padded_crops
from pipelines.sampling.grid import SMALL_IMAGE
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import stored_at_size
from selfie_data.images.resize import evaluation_geometry

_PADDING = 4  # pixels a side, the usual recipe of CIFAR
_PRETRAIN_AREA = (0.2, 1.0)  # of the image: as MoCo and MAE crop
_FINETUNE_AREA = (0.08, 1.0)  # of the image: torchvision's default, for ImageNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What is drawn for every sample.

    Attributes:
        flip: mirror half of the samples left to right.
        crop_area: lowest and highest area of a random resized crop, as fractions of the image; None = no such crop.
        padding: crop S x S from the image padded with so many zeros on every side; 0 = no such crop.
    """

    flip: bool = False
    crop_area: tuple[float, float] | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip must be True or False, got {self.flip!r}")
        object.__setattr__(self, "padding", whole_number("padding", self.padding))
        if self.crop_area is not None:
            object.__setattr__(self, "crop_area", _two_numbers(self.crop_area))
        if self.crop_area is not None and not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area must be 0 < lowest <= highest <= 1, got {self.crop_area}")
        if self.padding < 0 or (self.padding and self.crop_area is not None):
            raise ValueError(f"padding must be >= 0 and without crop_area, got {self.padding} and {self.crop_area}")

    @property
    def random(self) -> bool:
        return self.flip or self.crop_area is not None or self.padding > 0


def _two_numbers(area: tuple[float, float]) -> tuple[float, float]:
    """Returns them as floats of Python's own: the record's text stands in loader states."""
    try:
        lowest, highest = area
        return float(lowest), float(highest)
    except (TypeError, ValueError):
        raise ValueError(f"crop_area must be two numbers, the lowest and the highest, got {area!r}") from None


class Geometry(NamedTuple):
    """The part of a `BatchPlan` that says which pixels become the image; see there."""

    crop: NDArray[np.int64] | None
    resize: NDArray[np.int64] | None
    window: NDArray[np.int64] | None
    flip: NDArray[np.bool_] | None


def resolve_augmentation(augment: str | Augmentation, image_size: int) -> Augmentation:
    """Returns the record that a preset's name stands for at this image size."""
    if isinstance(augment, Augmentation):
        return augment
    small = image_size <= SMALL_IMAGE
    match augment:
        case "none":
            return Augmentation()
        case "pretrain":
            return Augmentation(flip=True) if small else Augmentation(flip=True, crop_area=_PRETRAIN_AREA)
        case "finetune" if small:
            return Augmentation(flip=True, padding=_PADDING)
        case "finetune":
            return Augmentation(flip=True, crop_area=_FINETUNE_AREA)
    raise ValueError(f"augment must be 'pretrain', 'finetune', 'none' or an Augmentation, got {augment!r}")


@dataclass(frozen=True, kw_only=True)
class ImageDraw:
    """What is done to the samples of a dataset: a pure function of (seed, epoch, sample id), row by row.

    Attributes:
        dataset: whose samples.
        augmentation: what is drawn.
        seed: of all draws, 0 <= seed < 2**64.
        evaluation: draws do not change with the epoch: validation on moving masks makes the best epoch a lottery.
    """

    dataset: Dataset
    augmentation: Augmentation
    seed: int
    evaluation: bool

    def epoch_of(self, epoch: int) -> int:
        """Returns the epoch that is drawn for, 0 <= epoch < 2**32."""
        return 0 if self.evaluation else epoch

    def geometry(self, epoch: int, ids: NDArray[np.int64]) -> Geometry:
        """Returns what becomes of each of the samples `ids` [B]."""
        augmentation, size = self.augmentation, self.dataset.image_size
        seed, epoch = self.seed, self.epoch_of(epoch)
        flip = draw_flips(seed, epoch, ids) if augmentation.flip else None
        if augmentation.crop_area is not None:
            crop = draw_crops(seed, epoch, ids, *self._stored_sizes(ids), area=augmentation.crop_area)
            return Geometry(crop, np.full((len(ids), 2), size), None, flip)
        resize, window = (None, None) if self._stored_at_size else evaluation_crop(*self._stored_sizes(ids), size)
        if augmentation.padding:
            offset = draw_padded_crops(seed, epoch, ids, padding=augmentation.padding) - augmentation.padding
            window = offset if window is None else window + offset
        return Geometry(None, resize, window, flip)

    @cached_property
    def _stored_at_size(self) -> bool:
        return stored_at_size(self.dataset)  # once: of a dataset of schema 1 it goes through all rows

    def _stored_sizes(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns heights and widths of the stored images, int64 [B]; not looked up where all are the same."""
        if self._stored_at_size:
            sides = np.full(len(ids), self.dataset.image_size)
            return sides, sides
        rows = self.dataset.rows(ids)
        return rows.height.astype(np.int64), rows.width.astype(np.int64)


def evaluation_crop(
    heights: NDArray[np.integer], widths: NDArray[np.integer], image_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns (resize, window), int64 [B, 2] each: see `selfie_data.images.resize.evaluation_geometry`."""
    return evaluation_geometry(np.stack((heights, widths), axis=1).astype(np.int64), image_size)
