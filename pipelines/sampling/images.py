"""Steps of whole images: sample ids become a plan of draws, a plan and its tensors become an `ImageBatch`.

Pure functions of (options, seed, epoch, ids).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.batch import ImageBatch
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.sampling.augment import ImageDraw
from pipelines.staging import Staging


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """Whole images and their labels; makes `ImageBatch`."""

    draw: ImageDraw
    spec: OutputSpec
    staging: Staging

    def describe(self) -> str:
        """Returns in words what the tensors depend on besides seed, epoch and ids."""
        return f"{self.draw.augmentation}, whole images"

    def plan(self, epoch: int, step: int, ids: NDArray[np.int64]) -> BatchPlan:
        """Returns the draws of one rank's slice of one step; ids [b] int64, b >= 1."""
        crop, resize, window, flip = self.draw.geometry(epoch, ids)
        return BatchPlan(epoch=epoch, step=step, sample_id=ids, crop=crop, resize=resize, window=window, flip=flip)

    def batch(self, plan: BatchPlan | None, output: BackendOutput | None, rows: int) -> ImageBatch:
        """Returns the batch of `rows` samples, padded where the plan has fewer; None and None: all padding."""
        ids = np.full(rows, -1, np.int64)
        label = np.full(rows, -1, np.int64)
        if plan is not None:
            ids[: len(plan)] = plan.sample_id
            label[: len(plan)] = self.draw.dataset.rows(plan.sample_id).label
        size = self.spec.image_size
        labels, sample_id = self.staging.send(label, ids)
        return ImageBatch(
            image=padded(output.image if output else None, rows, (size, size, 3), self.spec, self.staging.device),
            label=labels,
            sample_id=sample_id,
        )


def padded(tensor: Tensor | None, rows: int, shape: tuple[int, ...], spec: OutputSpec, device: torch.device) -> Tensor:
    """Returns the tensor with zero rows added up to `rows`; as it is where none are missing."""
    if tensor is not None and len(tensor) == rows:
        return tensor
    padded = torch.zeros((rows, *shape), dtype=spec.torch_dtype, device=device)
    if tensor is not None:
        padded[: len(tensor)] = tensor
    return padded
