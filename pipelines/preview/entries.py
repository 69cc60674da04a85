"""What stands on a sheet: images of a dataset and what a selection shows of them, as stored or from the loader."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.preview.contact_sheet import SheetEntry
from pipelines.preview.panels import PanelEntry
from pipelines.sampling.grid import Grid, patchify
from pipelines.sampling.selection import SelectionName, hidden_mask, select_cells
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import central_view, read_payloads, stored_at_size

if TYPE_CHECKING:
    from pipelines.batch import PatchBatch

Ids = NDArray[np.int64]
Shown = dict[str, NDArray[np.bool_]]  # title of a panel -> [B, G]


def stored_puzzles(dataset: Dataset, grid: Grid, targets: int, ids: Ids, *, seed: int, epoch: int) -> list[SheetEntry]:
    """Returns puzzles of the images `ids` as they are stored."""
    context = grid.cells - targets
    cells = select_cells(seed, epoch, ids, grid, context=context, target=targets)
    images = _views(dataset, ids)
    patches = np.take_along_axis(patchify(images, grid.patch_size), cells[:, :, None, None, None], axis=1)
    return _puzzles(dataset, ids, images, patches, cells, context)


def puzzles_of(dataset: Dataset, batch: "PatchBatch") -> list[SheetEntry]:
    """Returns the puzzles of a loader's batch, beside the images as they are stored."""
    ids = batch.sample_id.numpy()
    images = _views(dataset, ids)
    return _puzzles(dataset, ids, images, batch.patches.numpy(), batch.position.numpy(), batch.context_count)


def stored_panels(
    dataset: Dataset, grid: Grid, selection: SelectionName, target: int | None, ids: Ids, *, seed: int, epoch: int
) -> list[PanelEntry]:
    """Returns what a selection shows of the images `ids` as they are stored.

    Raises:
        ValueError: the selection does not fit the grid or `target`.
    """
    from pipelines.sampling.blocks import Multiblock, named_selection  # Numba: only where it is asked for
    from pipelines.sampling.patches import patch_counts

    rule = named_selection(selection)
    context, target = patch_counts(grid, rule, context=None, target=target, masking="skip")
    if isinstance(rule, Multiblock):
        sets = rule.draw(seed, epoch, ids, grid)
        shown = _shown_of_sets(sets.hidden(grid.cells), sets.target, sets.target_valid)
    elif rule is None:
        cells = select_cells(seed, epoch, ids, grid, context=context, target=target)
        shown = _context_and_hidden(hidden_mask(cells[:, :context], grid.cells))
    else:
        shown = _context_and_hidden(rule.hidden(seed, epoch, ids, grid, target))
    return _panels(dataset, ids, _views(dataset, ids), shown)


def panels_of(dataset: Dataset, grid: Grid, batch: "PatchBatch") -> list[PanelEntry]:
    """Returns what a loader's batch shows of its augmented images; all cells of the grid must be in it."""
    hidden, ids = batch.mask.numpy(), batch.sample_id.numpy()
    if batch.target_cells is not None and batch.target_valid is not None:
        shown = _shown_of_sets(hidden, batch.target_cells.numpy(), batch.target_valid.numpy())
    else:
        shown = _context_and_hidden(hidden)
    place = batch.position.numpy().argsort(axis=1)[:, :, None, None, None]
    patches = np.take_along_axis(batch.patches.numpy(), place, axis=1)
    tiles = patches.reshape(len(ids), grid.side, grid.side, *patches.shape[2:]).swapaxes(2, 3)
    return _panels(dataset, ids, tiles.reshape(len(ids), grid.image_size, grid.image_size, 3), shown)


def _context_and_hidden(hidden: NDArray[np.bool_]) -> Shown:
    return {"context": ~hidden, "hidden": hidden}


def _shown_of_sets(hidden: NDArray[np.bool_], target: NDArray[np.int64], valid: NDArray[np.bool_]) -> Shown:
    shown = {"context": ~hidden}
    for number in range(target.shape[1]):
        cells = np.zeros_like(hidden)
        rows, places = np.nonzero(valid[:, number])
        cells[rows, target[rows, number, places]] = True
        shown[f"target {number + 1}"] = cells
    return shown


def _puzzles(
    dataset: Dataset, ids: Ids, images: NDArray[np.uint8], patches: NDArray[np.uint8], cells: Ids, context: int
) -> list[SheetEntry]:
    return [
        SheetEntry(
            caption=_caption(dataset, int(sample)),
            image=images[row],
            patches=patches[row],
            cells=cells[row],
            context_count=context,
        )
        for row, sample in enumerate(ids)
    ]


def _panels(dataset: Dataset, ids: Ids, images: NDArray[np.uint8], shown: Shown) -> list[PanelEntry]:
    return [
        PanelEntry(
            caption=_caption(dataset, int(sample)),
            image=images[row],
            shown={name: cells[row] for name, cells in shown.items()},
        )
        for row, sample in enumerate(ids)
    ]


def _views(dataset: Dataset, ids: Ids) -> NDArray[np.uint8]:
    as_stored = stored_at_size(dataset)
    views = [
        central_view(dataset, int(sample), read_payloads(dataset, np.array([sample]))[0], as_stored=as_stored)
        for sample in ids
    ]
    return np.stack(views)


def _caption(dataset: Dataset, sample: int) -> str:
    label = int(dataset.rows(np.array([sample])).label[0])
    name = dataset.class_names[label] if label >= 0 else "no label"
    return f"#{sample}  {name}"
