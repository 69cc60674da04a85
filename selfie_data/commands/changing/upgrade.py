"""`selfie-data upgrade`: a dataset that an earlier version built opens at once."""

import click

from selfie_data.changes.upgrade import upgrade_dataset
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.manifest import UPGRADED
from selfie_data.storage.place import Place


@click.command("upgrade")
@click.argument("out", type=PlaceArgument())
def command(out: Place) -> None:
    """Writes root, pages and rows beside the manifest of the dataset OUT, which an earlier version built.

    It stays the same dataset, fingerprint and runs included. A dataset of the present form is left alone.
    """
    manifest = upgrade_dataset(out)
    what = f"{UPGRADED} written" if manifest.upgraded else "of the present form already"
    click.echo(f"{out}: {what}, {manifest.samples:,} samples in {len(manifest.shards)} shards")
