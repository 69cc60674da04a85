"""`selfie-data export-store`: decoded pixels for readers that hold them in memory."""

from pathlib import Path

import click
from tqdm import tqdm

from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.storage.place import Place


@click.command("export-store")
@click.argument("out", type=PlaceArgument())
@click.argument("store", type=LocalPath())
@click.option("--workers", type=click.IntRange(1), help="Decoding threads; default: one a core.")
def command(out: Place, store: Path, workers: int | None) -> None:
    """Decodes the dataset OUT into the zarr group STORE: uint8 [N, H, W, 3] in order of sample id, and labels.

    JPEG and PNG sets are stored as evaluation sees them: shorter side resized, centre crop at the dataset's image size.
    Excluded samples are black and have no label. Interrupted, it starts again; nothing is at STORE until it is whole.
    """
    dataset = open_dataset(out)
    with tqdm(total=len(dataset), unit="image", unit_scale=True, disable=None) as bar:
        written = export_store(dataset, store, workers=workers, progress=bar.update)
    size = len(dataset) * dataset.image_size**2 * 3
    state = "written" if written else "is there already"
    click.echo(f"{store}: {state}, {len(dataset):,} images, {size / 1e6:,.1f} MB in memory")
