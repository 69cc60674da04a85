"""`selfie-data split`: validation and labelled subsets."""

from collections.abc import Mapping

import click
import numpy as np
from numpy.typing import NDArray

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.id_lists import Ids
from selfie_data.storage.place import Place


@click.command("split")
@click.argument("out", type=PlaceArgument())
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
def command(out: Place, validation: str, fractions: str, seed: int, force: bool) -> None:
    """Splits the dataset OUT into training, validation and labelled subsets: stratified, nested, seeded.

    The subsets are stored as OUT/splits/NAME.npy (sample ids) and are named in `--subset NAME` later.

    Percentages are taken class by class and rounded half up to whole images, one at least: 5 % of 50 images a class are
    3 a class, which is 6 %. The share that each subset really has is printed.
    """
    try:
        labelled = tuple(text for text in fractions.split(",") if text.strip())
        options = SplitOptions(validation=validation, labelled=labelled, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    dataset = open_dataset(out)
    subsets = {name: dataset.live(ids) for name, ids in write_splits(dataset, options, force=force).items()}
    width = max(map(len, subsets))
    for name, ids in subsets.items():
        count, population = population_of(name, subsets, dataset.labels)
        share = f"{len(ids) / count:8.2%}" if count else "     none"
        click.echo(f"{name:<{width}}  {len(ids):>9,} samples  {share} of the {count:,} {population}")


def population_of(name: str, subsets: Mapping[str, Ids], labels: NDArray[np.int32]) -> tuple[int, str]:
    """Returns what a subset's percentage is a share of: how many samples, and what they are; labels [N], -1 = none."""
    if name in ("train", "validation"):
        return len(subsets["train"]) + len(subsets["validation"]), "in all"
    if name.startswith("train-"):
        return int((labels[subsets["train"]] >= 0).sum()), "labelled in train"
    return int((labels >= 0).sum()), "labelled"
