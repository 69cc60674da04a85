"""`selfie-model reproduce`: labelled shards in, the table of the paper beside ours out."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.storage.place import Place
from selfie_model.commands.configuration import configuration_options, resolve_config
from selfie_model.commands.loading import loader_options
from selfie_model.data import LoaderOptions

if TYPE_CHECKING:
    from selfie_model.config import Config
    from selfie_model.study.grid import StudyGrid


@click.command("reproduce")
@click.argument("shards", type=PlaceArgument())
@configuration_options
@click.option("--out", type=LocalPath(), required=True, help="Folder of the study.")
@click.option(
    "--fractions",
    default="5,8,20,100",
    show_default=True,
    metavar="PERCENTS",
    help="Labelled shares, rounded to whole images a class.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="Runs a cell: seeds 0 … n-1.")
@click.option("--budget", default=1.0, show_default=True, help="Factor on the steps of both trainings.")
@click.option(
    "--test",
    type=PlaceArgument(),
    help="Shards to measure on, with the same classes.  [default: a fifth of SHARDS, never trained on]",
)
@click.option(
    "--learning-rates",
    metavar="RATES",
    help="Peak rates of finetuning to try on validation, e.g. 0.05,0.1,0.2; one = no tuning.  "
    "[default: half, once and twice the preset's]",
)
@click.option("--pretrain-per-seed", is_flag=True, help="Pretrain once a seed instead of once for all.")
@click.option(
    "--compute-matched",
    is_flag=True,
    help="A third arm: supervised from scratch for as long as pretraining and finetuning together.",
)
@click.option("--quiet", is_flag=True, help="No progress of single trainings.")
@loader_options
def command(
    shards: Place,
    out: Path,
    fractions: str,
    seeds: int,
    budget: float,
    test: Place | None,
    learning_rates: str | None,
    pretrain_per_seed: bool,
    compute_matched: bool,
    quiet: bool,
    loading: LoaderOptions,
    **configuration: Any,
) -> None:
    """Runs the paper's comparison on SHARDS: supervised from scratch against Selfie, by labelled share and seed.

    \b
    selfie-model reproduce SHARDS --preset cifar10 --test TEST_SHARDS --out STUDY --budget 0.1

    Started again, it goes on where it was and runs no finished cell again. Started on several machines or GPUs with the
    same --out on a shared file system, they share the cells. Writes results.md, results.json and results.svg.

    --steps and its neighbours speak of finetuning; for pretraining, --set pretrain.NAME=VALUE.
    """
    from selfie_model.study.grid import Study
    from selfie_model.study.results import collect, write_results
    from selfie_model.study.run import Progress, run_study
    from selfie_model.study.shards import TEST_IDS, StudyShards
    from selfie_model.training.distributed import process_group
    from selfie_model.training.stop_request import StopRequest

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError("a cell runs in one process: start one a GPU with the same --out, not torchrun")
    config = resolve_config("finetune", **configuration)
    data = StudyShards(shards, test, config=config, loading=loading)
    try:
        grid = _grid(
            config,
            fractions,
            seeds,
            learning_rates,
            pretrain_per_seed=pretrain_per_seed,
            compute_matched=compute_matched,
        )
        study = Study(out=out, config=config, grid=grid, budget=budget, notes=(data.note,))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    # in a log file one line an interval of dozens of finetunings hides the results
    progress: Progress = "none" if quiet else "all" if sys.stderr.isatty() else "pretraining"
    with process_group(loading.device) as ranks, StopRequest() as stop:
        data.save_held_out(out / TEST_IDS)
        finished = run_study(study, data, ranks=ranks, stop=stop, say=click.echo, progress=progress)
    text = write_results(study, collect(study))
    click.echo("\n" + text)
    if finished:
        click.echo(f"{out}/results.md, results.json, results.svg")
    else:
        raise click.ClickException(f"stopped by {stop.reason} before all cells were finished; the same command goes on")


def _grid(
    config: "Config",
    fractions: str,
    seeds: int,
    learning_rates: str | None,
    *,
    pretrain_per_seed: bool,
    compute_matched: bool,
) -> "StudyGrid":
    from selfie_model.study.grid import StudyGrid

    peak = config.finetune.learning_rate
    rates = (peak / 2, peak, 2 * peak) if learning_rates is None else _numbers("--learning-rates", learning_rates)
    return StudyGrid(
        percents=tuple(sorted(_numbers("--fractions", fractions))),
        seeds=tuple(range(seeds)),
        rates=rates,
        arms=("scratch", "long", "selfie") if compute_matched else ("scratch", "selfie"),
        pretrain_seeds=tuple(range(seeds)) if pretrain_per_seed else (0,),
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between, got {text!r}") from None
