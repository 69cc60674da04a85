"""`selfie-data split`: validation and labelled subsets."""

from pathlib import Path

import click

from selfie_data.dataset import open_dataset
from selfie_data.splits import SplitOptions, write_splits


@click.command("split")
@click.argument("out", type=click.Path(path_type=Path, readable=False))
@click.option("--validation", default="10", show_default=True, metavar="PERCENT", help="Share of each class held out.")
@click.option(
    "--fractions",
    default="5,8,10,20,100",
    show_default=True,
    metavar="PERCENTS",
    help="Labelled subsets: train-P of what is not validation, all-P of everything.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, (1 << 64) - 1))
@click.option("--force", is_flag=True, help="Replace splits made with other options.")
def command(out: Path, validation: str, fractions: str, seed: int, force: bool) -> None:
    """Splits the dataset OUT into training, validation and labelled subsets: stratified, nested, seeded.

    The subsets are stored as OUT/splits/NAME.npy (sample ids) and are named in `--subset NAME` later.
    """
    try:
        labelled = tuple(text for text in fractions.split(",") if text.strip())
        options = SplitOptions(validation=validation, labelled=labelled, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    subsets = write_splits(open_dataset(out), options, force=force)
    width = max(map(len, subsets))
    for name, ids in subsets.items():
        click.echo(f"{name:<{width}}  {len(ids):>9,} samples")
