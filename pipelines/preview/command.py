"""`selfie-data preview`: a contact sheet of what the model is shown and asked."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from pipelines.preview.contact_sheet import SheetEntry, draw_sheet
from pipelines.sampling.grid import Grid, default_patch_size, default_split, patchify
from pipelines.sampling.selection import select_cells
from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.read import central_view, read_payloads, stored_at_size
from selfie_data.errors import BuildError
from selfie_data.files import write_atomic
from selfie_data.storage.place import Place

if TYPE_CHECKING:
    from pipelines.batch import PatchBatch

Ids = NDArray[np.int64]


@click.command("preview")
@click.argument("out", type=PlaceArgument())
@click.option("-o", "--output", type=LocalPath(), default=Path("preview.png"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the sheet that stands there.")
@click.option("--count", default=8, show_default=True, type=click.IntRange(1, 200), help="Images on the sheet.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Sample id of the first image.")
@click.option("--subset", help="Take the images from this subset (`selfie-data split`).")
@click.option("--columns", default=2, show_default=True, type=click.IntRange(1, 10), help="Images beside each other.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, (1 << 64) - 1), help="Seed of the draws.")
@click.option("--epoch", default=0, show_default=True, type=click.IntRange(0, (1 << 32) - 1), help="Epoch drawn for.")
@click.option("--patch-size", type=click.IntRange(1), help="Patch side, pixels.  [default: 8 up to 64 px, 32 above]")
@click.option("--target", type=click.IntRange(1), help="Target patches an image.  [default: a quarter of the grid]")
@click.option("--batch", is_flag=True, help="Show the first training batch of the loader: its order, augmented.")
def command(
    out: Place,
    output: Path,
    overwrite: bool,
    count: int,
    first: int,
    subset: str | None,
    columns: int,
    seed: int,
    epoch: int,
    patch_size: int | None,
    target: int | None,
    batch: bool,
) -> None:
    """Draws a contact sheet of the dataset OUT as a PNG: each image, its context and hidden patches, and its targets.

    Context and targets are those that training with the same seed sees in the same epoch.
    """
    if batch and first:
        raise click.UsageError(f"--batch shows the images in the loader's order, got --first {first}: leave one out")
    if output.exists() and not output.is_dir() and not overwrite:
        raise BuildError(f"{output} exists already; give another -o, or --overwrite")
    dataset = open_dataset(out)
    try:
        size = dataset.image_size
        grid = Grid(image_size=size, patch_size=patch_size or default_patch_size(size))
        targets = target or default_split(grid.cells)[1]
        if batch:
            entries = _batch_entries(dataset, grid, targets, subset=subset, count=count, seed=seed, epoch=epoch)
        else:
            chosen = _choose(dataset, subset, first, count)
            entries = _stored_entries(dataset, grid, targets, chosen, seed=seed, epoch=epoch)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    name = out.resolve().name if isinstance(out, Path) else out.name
    sheet = draw_sheet(
        entries,
        side=grid.side,
        title=f"{name}: {len(dataset):,} images of {size} px, stored as {dataset.encoding}",
        subtitle=(
            f"{'first batch of the loader, augmented' if batch else 'as stored, not augmented'}; "
            f"grid {grid.side} x {grid.side}, patches of {grid.patch_size} px, "
            f"{grid.cells - targets} context + {targets} targets; seed {seed}, epoch {epoch}"
        ),
        columns=columns,
    )
    png = io.BytesIO()
    sheet.save(png, "PNG")
    try:
        write_atomic(output, png.getvalue())
    except OSError as error:
        raise BuildError(f"{output}: cannot be written ({error.strerror})") from error
    click.echo(f"{output}: {len(entries)} images, {sheet.width} x {sheet.height} px")


def _choose(dataset: Dataset, subset: str | None, first: int, count: int) -> Ids:
    ids = np.arange(len(dataset)) if subset is None else dataset.subset(subset)
    chosen = ids[ids >= first][:count]
    if not len(chosen):
        raise ValueError(f"no sample id from {first} on: the highest is {ids.max() if len(ids) else 'none'}")
    return chosen


def _stored_entries(dataset: Dataset, grid: Grid, targets: int, ids: Ids, *, seed: int, epoch: int) -> list[SheetEntry]:
    context = grid.cells - targets
    cells = select_cells(seed, epoch, ids, grid, context=context, target=targets)
    images = _views(dataset, ids)
    patches = np.take_along_axis(patchify(images, grid.patch_size), cells[:, :, None, None, None], axis=1)
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


def _batch_entries(
    dataset: Dataset, grid: Grid, targets: int, *, subset: str | None, count: int, seed: int, epoch: int
) -> list[SheetEntry]:
    from pipelines import PatchLoader  # torch: only where it is asked for

    with PatchLoader(
        dataset,
        global_batch_size=min(count, len(dataset) if subset is None else len(dataset.subset(subset))),
        seed=seed,
        subset=subset,
        device="cpu",
        patch_size=grid.patch_size,
        context=grid.cells - targets,
        target=targets,
        rank=0,
        world_size=1,
    ) as loader:
        loader.set_epoch(epoch)
        batch: PatchBatch = next(iter(loader))
        ids = batch.sample_id.numpy().copy()
        patches, cells = batch.patches.numpy().copy(), batch.position.numpy().copy()
    return [
        SheetEntry(
            caption=_caption(dataset, int(sample)),
            image=image,
            patches=patches[row],
            cells=cells[row],
            context_count=batch.context_count,
        )
        for row, (sample, image) in enumerate(zip(ids, _views(dataset, ids), strict=True))
    ]


def _views(dataset: Dataset, ids: Ids) -> NDArray[np.uint8]:
    as_stored = stored_at_size(dataset)
    views = [
        central_view(dataset, int(sample), read_payloads(dataset, np.array([sample]))[0], as_stored=as_stored)
        for sample in ids
    ]
    return np.stack(views)


def _caption(dataset: Dataset, sample: int) -> str:
    label = int(dataset.table.label[sample])
    name = dataset.class_names[label] if label >= 0 else "no label"
    return f"#{sample}  {name}"
