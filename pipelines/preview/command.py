"""`selfie-data preview`: a contact sheet of what the model is shown and asked."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from pipelines.preview.contact_sheet import draw_sheet
from pipelines.preview.entries import panels_of, puzzles_of, stored_panels, stored_puzzles
from pipelines.preview.panels import draw_panels
from pipelines.sampling.grid import Grid, default_patch_size, default_split
from pipelines.sampling.selection import NAMES, SelectionName
from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.errors import BuildError
from selfie_data.files import write_atomic
from selfie_data.storage.place import Place

if TYPE_CHECKING:
    from pipelines.batch import PatchBatch

Ids = NDArray[np.int64]
_PUZZLE = 24  # targets that still fit beside an image; of more, and of other selections, what is seen is shown


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
@click.option(
    "--selection",
    type=click.Choice(NAMES),
    default="random",
    show_default=True,
    help="Which cells are context and target: at random, or as in BEiT, SimMIM and I-JEPA.",
)
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
    selection: SelectionName,
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
    dataset.refuse_inside(output)
    try:
        grid = Grid(image_size=dataset.image_size, patch_size=patch_size or default_patch_size(dataset.image_size))
        targets = target or default_split(grid.cells)[1]
        drawn = f"selection {selection}"
        if selection == "random":
            target, drawn = targets, f"{grid.cells - targets} context + {targets} targets"
        name = out.resolve().name if isinstance(out, Path) else out.name
        head: dict[str, Any] = {
            "side": grid.side,
            "title": f"{name}: {dataset.manifest.live:,} images of {dataset.image_size} px, "
            f"stored as {dataset.encoding}",
            "subtitle": f"{'first batch of the loader, augmented' if batch else 'as stored, not augmented'}; "
            f"grid {grid.side} x {grid.side}, patches of {grid.patch_size} px, {drawn}; seed {seed}, epoch {epoch}",
            "columns": columns,
        }
        if batch:
            shown = _first_batch(dataset, grid, selection, target, subset=subset, count=count, seed=seed, epoch=epoch)
        else:
            ids = _choose(dataset, subset, first, count)
        if selection == "random" and targets <= _PUZZLE:
            puzzles = (
                puzzles_of(dataset, shown)
                if batch
                else stored_puzzles(dataset, grid, targets, ids, seed=seed, epoch=epoch)
            )
            number, sheet = len(puzzles), draw_sheet(puzzles, **head)
        else:
            panels = (
                panels_of(dataset, grid, shown)
                if batch
                else stored_panels(dataset, grid, selection, target, ids, seed=seed, epoch=epoch)
            )
            number, sheet = len(panels), draw_panels(panels, **head)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    png = io.BytesIO()
    sheet.save(png, "PNG")
    try:
        write_atomic(output, png.getvalue())
    except OSError as error:
        raise BuildError(f"{output}: cannot be written ({error.strerror})") from error
    click.echo(f"{output}: {number} images, {sheet.width} x {sheet.height} px")


def _choose(dataset: Dataset, subset: str | None, first: int, count: int) -> Ids:
    ids = dataset.live(np.arange(len(dataset))) if subset is None else dataset.subset(subset)
    chosen = ids[ids >= first][:count]
    if not len(chosen):
        raise ValueError(f"no sample id from {first} on: the highest is {ids.max() if len(ids) else 'none'}")
    return chosen


def _first_batch(
    dataset: Dataset,
    grid: Grid,
    selection: SelectionName,
    target: int | None,
    *,
    subset: str | None,
    count: int,
    seed: int,
    epoch: int,
) -> "PatchBatch":
    from pipelines import PatchLoader  # torch: only where it is asked for

    with PatchLoader(
        dataset,
        global_batch_size=min(count, dataset.manifest.live if subset is None else len(dataset.subset(subset))),
        seed=seed,
        subset=subset,
        device="cpu",
        patch_size=grid.patch_size,
        target=target,
        selection=selection,
        rank=0,
        world_size=1,
    ) as loader:
        loader.set_epoch(epoch)
        return next(iter(loader))
