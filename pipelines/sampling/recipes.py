"""What a step is made of: sample ids become a plan of draws, a plan and its tensors become a batch.

Pure functions of (options, seed, epoch, ids); the two recipes are what `PatchLoader` and `ImageLoader` differ in.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.batch import ImageBatch, PatchBatch
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation, Geometry, draw_geometry
from pipelines.sampling.compiled_draws import patch_draws
from pipelines.sampling.draws import Selection, hidden_mask, select_cells
from pipelines.sampling.grid import Grid
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import stored_at_size

Masking = Literal["skip", "zero"]

VERSION = 1  # of the draws' definitions (here, draws.py, augment.py); stands in loader states


@dataclass(frozen=True, kw_only=True)
class ImageDraw:
    """Geometry of samples of a data set.

    Attributes:
        dataset: whose samples.
        augmentation: what is drawn.
        seed: of all draws.
        evaluation: draws do not change with the epoch: validation on moving masks makes the best epoch a lottery.
    """

    dataset: Dataset
    augmentation: Augmentation
    seed: int
    evaluation: bool

    @cached_property
    def stored_at_size(self) -> bool:
        """Whether every image is stored at the model's size; asked once, of all rows of the sample table."""
        return stored_at_size(self.dataset)

    def epoch_of(self, epoch: int) -> int:
        return 0 if self.evaluation else epoch

    def geometry(self, epoch: int, ids: NDArray[np.int64]) -> Geometry:
        heights, widths = self._sizes(ids)
        return draw_geometry(
            self.augmentation,
            seed=self.seed,
            epoch=self.epoch_of(epoch),
            ids=ids,
            heights=heights,
            widths=widths,
            image_size=self.dataset.image_size,
            stored_at_size=self.stored_at_size,
        )

    def _sizes(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns heights and widths of the stored images, int32 [B]; not looked up where all are the same."""
        if self.stored_at_size:
            sides = np.full(len(ids), self.dataset.image_size, np.int32)
            return sides, sides
        return self.dataset.table.height[ids], self.dataset.table.width[ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRecipe:
    """Patches of images; makes `PatchBatch`.

    Attributes:
        draw: geometry of the images.
        spec: what backends give.
        grid: cells of an image.
        context: patches that the encoder sees.
        target: patches that are put back.
        masking: `skip` leaves hidden patches out, `zero` gives the encoder the full grid with holes.
        selection: the user's own rule, see `draws.Selection`.
        device: of the batch.
    """

    draw: ImageDraw
    spec: OutputSpec
    grid: Grid
    context: int
    target: int
    masking: Masking
    selection: Selection | None
    device: torch.device

    @property
    def context_count(self) -> int:
        """Patches at the front of a batch that the encoder sees."""
        return self.context if self.masking == "skip" else self.grid.cells

    def describe(self) -> str:
        """Returns in words what the tensors depend on besides seed, epoch and ids."""
        rule = self.selection
        name = "uniform" if rule is None else f"{rule.__module__}.{getattr(rule, '__qualname__', type(rule).__name__)}"
        return (
            f"{self.draw.augmentation}, patches of {self.grid.patch_size} px, {self.context} context + "
            f"{self.target} target, {self.masking}, {name}"
        )

    def plan(self, epoch: int, step: int, ids: NDArray[np.int64]) -> BatchPlan:
        """Returns the draws of one rank's slice of one step; ids [b] int64, b >= 1."""
        crop, resize, window, flip = self.draw.geometry(epoch, ids)
        cells, hole, mask = self._arrange(*self._choose(epoch, ids))
        return BatchPlan(
            epoch=epoch,
            step=step,
            sample_id=ids,
            crop=crop,
            resize=resize,
            window=window,
            flip=flip,
            position=cells,
            hole=hole,
            mask=mask,
        )

    def batch(self, plan: BatchPlan | None, output: BackendOutput | None, rows: int) -> PatchBatch:
        """Returns the batch of `rows` samples, padded where the plan has fewer; None and None: all padding."""
        real = 0 if plan is None else len(plan)
        filler = np.arange(self.context + self.target)[None].repeat(rows - real, axis=0)
        cells, _, mask = self._arrange(filler, hidden_mask(filler[:, : self.context], self.grid.cells))
        ids = np.full(rows - real, -1, np.int64)
        if plan is not None and plan.position is not None and plan.mask is not None:
            if real == rows:
                cells, mask, ids = plan.position, plan.mask, plan.sample_id
            else:
                cells = np.concatenate((plan.position, cells))
                mask = np.concatenate((plan.mask, mask))
                ids = np.concatenate((plan.sample_id, ids))
        size, p = self.spec.image_size, self.grid.patch_size
        return PatchBatch(
            patches=_padded(
                output.patches if output else None, rows, (cells.shape[1], p, p, 3), self.spec, self.device
            ),
            position=torch.from_numpy(np.ascontiguousarray(cells)).to(self.device),
            context_count=self.context_count,
            mask=torch.from_numpy(mask).to(self.device),
            sample_id=torch.from_numpy(ids).to(self.device),
            image=_padded(output.image if output else None, rows, (size, size, 3), self.spec, self.device)
            if self.spec.whole_image
            else None,
        )

    def _choose(self, epoch: int, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns (cells of the patches, context first; hidden cells of the grid)."""
        seed, epoch, total = self.draw.seed, self.draw.epoch_of(epoch), self.grid.cells
        if self.selection is None:
            order, mask = patch_draws(seed, epoch, ids, cells=total, context=self.context)
            return order[:, : self.context + self.target], mask
        chosen = select_cells(
            seed, epoch, ids, self.grid, context=self.context, target=self.target, selection=self.selection
        )
        return chosen, hidden_mask(chosen[:, : self.context], total)

    def _arrange(
        self, chosen: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None, NDArray[np.bool_]]:
        """Returns (cells in output order, which of them are holes, hidden cells of the grid)."""
        if self.masking == "skip":
            return chosen, None, mask
        targets = chosen[:, self.context :]
        full = np.broadcast_to(np.arange(self.grid.cells), mask.shape)
        hole = np.concatenate((mask, np.zeros(targets.shape, np.bool_)), axis=1)
        return np.concatenate((full, targets), axis=1), hole, mask


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """Whole images and their labels; makes `ImageBatch`."""

    draw: ImageDraw
    spec: OutputSpec
    device: torch.device

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
            label[: len(plan)] = self.draw.dataset.table.label[plan.sample_id]
        size = self.spec.image_size
        return ImageBatch(
            image=_padded(output.image if output else None, rows, (size, size, 3), self.spec, self.device),
            label=torch.from_numpy(label).to(self.device),
            sample_id=torch.from_numpy(ids).to(self.device),
        )


def _padded(tensor: Tensor | None, rows: int, shape: tuple[int, ...], spec: OutputSpec, device: torch.device) -> Tensor:
    """Returns the tensor with zero rows added up to `rows`; as it is where none are missing."""
    if tensor is not None and len(tensor) == rows:
        return tensor.to(device)
    padded = torch.zeros((rows, *shape), dtype=spec.torch_dtype, device=device)
    if tensor is not None:
        padded[: len(tensor)] = tensor
    return padded
