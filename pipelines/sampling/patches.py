"""Steps of patches: sample ids become a plan of draws, a plan and its tensors become a `PatchBatch`.

Pure functions of (options, seed, epoch, ids).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.batch import PatchBatch
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.sampling.augment import ImageDraw
from pipelines.sampling.blocks import Blocks, CellSets, Multiblock, Squares
from pipelines.sampling.draws import draw_patches
from pipelines.sampling.grid import Grid, split_cells
from pipelines.sampling.images import padded
from pipelines.sampling.selection import Selection, hidden_mask, select_cells
from pipelines.staging import Staging

Masking = Literal["skip", "zero"]
_SET_KINDS = (np.int64, np.bool_, np.int64, np.bool_)  # of `CellSets`
Rule = Selection | Blocks | Squares | Multiblock


def patch_counts(
    grid: Grid, rule: Rule | None, *, context: int | None, target: int | None, masking: Masking
) -> tuple[int, int]:
    """Returns how many patches are context and target: what was asked for, defaults for what was not.

    `Multiblock` gives the whole grid, as context, and says in its sets who sees what.

    Raises:
        ValueError: the numbers do not fit the grid or the rule.
    """
    if isinstance(rule, Multiblock):
        if context is not None or target is not None or masking != "skip":
            raise ValueError(
                "selection multiblock draws its own numbers and gives the whole grid: leave context, target and "
                f"masking out, got {context}, {target} and {masking!r}"
            )
        rule.check(grid)
        return grid.cells, 0
    context, target = split_cells(grid.cells, context=context, target=target)
    if isinstance(rule, Blocks | Squares):
        if context + target != grid.cells:
            raise ValueError(
                f"with {rule} all that is not hidden is context: context + target must be {grid.cells}, got "
                f"{context} + {target}; give target alone"
            )
        rule.check(grid, target)
    return context, target


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRecipe:
    """Patches of images; makes `PatchBatch`.

    Attributes:
        draw: geometry of the images.
        spec: what backends give.
        grid: cells of an image.
        context: patches that the encoder sees.
        target: patches that are put back.
        masking: `skip` leaves hidden patches out, `zero` gives the encoder the full grid with zeros in their place.
        selection: a rule of `blocks`, or the user's own, see `selection.Selection`; None = the first of the order.
        staging: to the device of the batch.
    """

    draw: ImageDraw
    spec: OutputSpec
    grid: Grid
    context: int
    target: int
    masking: Masking
    selection: Rule | None
    staging: Staging

    @property
    def context_count(self) -> int:
        """Patches at the front of a batch that the encoder sees."""
        return self.context if self.masking == "skip" else self.grid.cells

    def describe(self) -> str:
        """Returns in words what the tensors depend on besides seed, epoch and ids."""
        rule = self.selection
        if rule is None:
            name = "uniform"
        elif isinstance(rule, Blocks | Squares | Multiblock):
            name = repr(rule)
        else:
            name = f"{rule.__module__}.{getattr(rule, '__qualname__', type(rule).__name__)}"
        return (
            f"{self.draw.augmentation}, patches of {self.grid.patch_size} px, {self.context} context + "
            f"{self.target} target, {self.masking}, {name}"
        )

    def plan(self, epoch: int, step: int, ids: NDArray[np.int64]) -> BatchPlan:
        """Returns the draws of one rank's slice of one step; ids [b] int64, b >= 1."""
        crop, resize, window, flip = self.draw.geometry(epoch, ids)
        chosen, mask, cell_sets = self._choose(epoch, ids)
        cells, hidden, mask = self._arrange(chosen, mask)
        return BatchPlan(
            epoch=epoch,
            step=step,
            sample_id=ids,
            crop=crop,
            resize=resize,
            window=window,
            flip=flip,
            position=cells,
            hidden=hidden,
            mask=mask,
            cell_sets=cell_sets,
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
        size, p, device = self.spec.image_size, self.grid.patch_size, self.staging.device
        position, masks, sample_id, *sets = self.staging.send(cells, mask, ids, *self._padded_sets(plan, rows))
        return PatchBatch(
            patches=padded(output.patches if output else None, rows, (cells.shape[1], p, p, 3), self.spec, device),
            position=position,
            context_count=self.context_count,
            mask=masks,
            sample_id=sample_id,
            image=padded(output.image if output else None, rows, (size, size, 3), self.spec, device)
            if self.spec.whole_image
            else None,
            **dict(zip(("context_cells", "context_valid", "target_cells", "target_valid"), sets, strict=False)),
        )

    def _padded_sets(self, plan: BatchPlan | None, rows: int) -> tuple[NDArray[Any], ...]:
        """Returns the plan's cell sets for `rows` samples; nothing is valid in padding. Empty but for `Multiblock`."""
        if not isinstance(self.selection, Multiblock):
            return ()
        context, targets, most = self.selection.shape(self.grid)
        shapes = ((rows, context), (rows, context), (rows, targets, most), (rows, targets, most))
        padded_sets = CellSets(*(np.zeros(shape, kind) for shape, kind in zip(shapes, _SET_KINDS, strict=True)))
        if plan is not None and plan.cell_sets is not None:
            for whole, part in zip(padded_sets, plan.cell_sets, strict=True):
                whole[: len(part)] = part
        return padded_sets

    def _choose(
        self, epoch: int, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], CellSets | None]:
        """Returns (cells of the patches, context first; hidden cells of the grid; the sets of `Multiblock`)."""
        seed, epoch, total, rule = self.draw.seed, self.draw.epoch_of(epoch), self.grid.cells, self.selection
        if rule is None:
            order, mask = draw_patches(seed, epoch, ids, cells=total, context=self.context)
            return order[:, : self.context + self.target], mask, None
        if isinstance(rule, Multiblock):
            sets = rule.draw(seed, epoch, ids, self.grid)
            return np.arange(total)[None].repeat(len(ids), axis=0), sets.hidden(total), sets
        if isinstance(rule, Blocks | Squares):
            mask = rule.hidden(seed, epoch, ids, self.grid, self.target)
            seen, hidden = (np.nonzero(cells)[1].reshape(len(ids), -1) for cells in (~mask, mask))
            return np.concatenate((seen, hidden), axis=1), mask, None
        chosen = select_cells(seed, epoch, ids, self.grid, context=self.context, target=self.target, selection=rule)
        return chosen, hidden_mask(chosen[:, : self.context], total), None

    def _arrange(
        self, chosen: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None, NDArray[np.bool_]]:
        """Returns (cells in output order, which of them are hidden, hidden cells of the grid)."""
        if self.masking == "skip":
            return chosen, None, mask
        targets = chosen[:, self.context :]
        full = np.broadcast_to(np.arange(self.grid.cells), mask.shape)
        hidden = np.concatenate((mask, np.zeros(targets.shape, np.bool_)), axis=1)
        return np.concatenate((full, targets), axis=1), hidden, mask
