"""One cell of a recorded study, done again, and whether it agrees.

    python -m benchmarks repeat-cell benchmarks/results/study_imagenet32.json SHARDS TEST --cell final/scratch-5/seed-0

On the machine that made the record the accuracy is the same to the last digit. On another one sums are rounded
otherwise, which training amplifies until it is another seed: it agrees if it lies where 95 of 100 further seeds would
(prediction interval of Student's t over the recorded seeds).
"""

import math
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.evidence.study_record import StudyRecord, images_digest


@click.command("repeat-cell")
@click.argument("record", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=click.Path(path_type=Path, exists=True))
@click.argument("test", type=click.Path(path_type=Path, exists=True))
@click.option("--cell", "name", default="final/scratch-5/seed-0", show_default=True, help="A final cell of the record.")
@click.option("--other-images", is_flag=True, help="Compare although these are not the images of the record.")
def command(record: Path, shards: Path, test: Path, name: str, *, other_images: bool) -> None:
    """Does one cell of a study again; exit code 1 if it does not agree."""
    known = StudyRecord.load(record)
    if name not in known.cells or not name.startswith("final/"):
        finals = ", ".join(cell for cell in known.cells if cell.startswith("final/"))
        raise click.UsageError(f"{record}: no final cell {name!r}; there are: {finals}")
    images = {"train": images_digest(shards), "test": images_digest(test)}
    if images != known.images and not other_images:
        raise click.UsageError(f"{shards} and {test} are not the images of {record}; --other-images compares anyway")
    accuracy = _run(known, shards, test, name)
    recorded, (low, high) = known.cells[name]["accuracy"], prediction_interval(known.group(name))
    agrees = accuracy == recorded or low <= accuracy <= high
    click.echo(
        f"{name}: {accuracy:.2%}, recorded {recorded:.2%} "
        f"(a further seed would lie in {low:.2%} to {high:.2%}): {'agrees' if agrees else 'does NOT agree'}"
    )
    raise SystemExit(0 if agrees else 1)


def prediction_interval(values: list[float]) -> tuple[float, float]:
    """Returns where a further value lies with 95 % probability, by Student's t; one value alone gives that value."""
    from selfie_model.study.table import half_interval

    mean, half = statistics.fmean(values), half_interval(values) or 0.0
    wider = half * math.sqrt(len(values) + 1)  # of one value, instead of the mean of as many
    return mean - wider, mean + wider


def _run(known: StudyRecord, shards: Path, test: Path, name: str) -> float:
    from selfie_model.config import Config
    from selfie_model.data import LoaderOptions
    from selfie_model.study.grid import Study, StudyGrid, read_done
    from selfie_model.study.run import run_study
    from selfie_model.study.shards import StudyShards
    from selfie_model.training.distributed import process_group
    from selfie_model.training.stop_request import StopRequest

    cell, config = known.cells[name], Config.from_dict(known.config)
    seed: int = cell["seed"]
    grid = StudyGrid(
        percents=(cell["percent"],),
        seeds=(seed,),
        rates=(cell["rate"],),
        arms=(cell["arm"],),
        pretrain_seeds=known.pretrain_seeds,
    )
    data = StudyShards(shards, test, config=config, loading=LoaderOptions(device="cpu"))
    with TemporaryDirectory(prefix="selfie-repeat-") as folder, process_group("cpu") as ranks, StopRequest() as stop:
        study = Study(out=Path(folder), config=config, grid=grid)
        if not run_study(study, data, ranks=ranks, stop=stop, say=click.echo):
            raise click.ClickException(f"stopped by {stop.reason}")
        done = read_done(Path(folder) / name)
    assert done is not None
    accuracy: float = done["accuracy"]
    return accuracy
