"""`selfie-data stats`: the channel statistics and the sizes of the stored images."""

import json
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.images.statistics import add_up
from selfie_data.storage.place import Place

_PERCENTILES = (0, 25, 50, 75, 100)


@click.command("stats")
@click.argument("out", type=PlaceArgument())
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def command(out: Place, as_json: bool) -> None:
    """Shows the channel means and deviations (0..255) of the dataset OUT, and the sizes of its images.

    The statistics are exact sums over every stored pixel, taken when the dataset was built; a dataset that grew or
    shrank keeps them, for its loaders to normalise by, and shows what its pixels have now beside them.
    """
    statistics = measure(open_dataset(out))
    if as_json:
        click.echo(json.dumps(statistics, indent=1))
        return
    click.echo(f"{'':<14}{'red':>10}{'green':>10}{'blue':>10}")
    for name in ("mean", "std", "mean_now", "std_now"):
        if name in statistics:
            click.echo(f"{name.replace('_', ' '):<14}" + "".join(f"{value:>10.3f}" for value in statistics[name]))
    click.echo(f"\n{'':<14}" + "".join(f"{title:>10}" for title in ("least", "25 %", "median", "75 %", "most")))
    for name in ("height", "width", "bytes"):
        click.echo(f"{name:<14}" + "".join(f"{value:>10,}" for value in statistics[name]))


def measure(dataset: Dataset) -> dict[str, Any]:
    """Returns mean and std [3] in 0..255; percentiles 0, 25, 50, 75, 100 of height, width and bytes an image."""
    table = dataset.table.take(dataset.live(np.arange(len(dataset))))
    return {
        **_pixels(dataset),
        "height": _percentiles(table.height),
        "width": _percentiles(table.width),
        "bytes": _percentiles(table.length),
    }


def _pixels(dataset: Dataset) -> dict[str, list[float]]:
    """Returns what loaders normalise by; of a dataset that changed, also what its stored pixels have now."""
    manifest = dataset.manifest
    found = {"mean": list(manifest.mean), "std": list(manifest.std)}
    if manifest.lineage:
        sums = [dataset.record(position).sums for position in range(len(manifest.shards))]
        if None not in sums:  # some builds kept none
            now = add_up(part for part in sums if part is not None)
            found |= {"mean_now": list(now.mean), "std_now": list(now.std)}
    return found


def _percentiles(values: NDArray[np.int32] | NDArray[np.int64]) -> list[int]:
    return [int(value) for value in np.percentile(values, _PERCENTILES, method="nearest")]
