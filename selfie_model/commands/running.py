"""What commands share about runs: how one goes on, ends early, says how it went, and that it was not finished."""

from dataclasses import replace
from pathlib import Path

import click

from pipelines.state import StateError, shuffle_of
from selfie_data.commands.place_argument import LocalPath
from selfie_data.errors import RunError
from selfie_model.commands.loading import Command, add_options
from selfie_model.data import LoaderOptions
from selfie_model.training.checkpoint import Checkpoints, read_checkpoint, steps_done
from selfie_model.training.run_folder import Result


def run_options(function: Command) -> Command:
    """Adds --out, --resume, --time-limit, --sync-batch-norm, --tensorboard and --quiet."""
    return add_options(
        function,
        click.option("--out", type=LocalPath(), required=True, help="Folder of the run."),
        click.option(
            "--resume",
            type=click.Choice(["auto", "no"]),
            default="no",
            show_default=True,
            help="auto: go on from the newest checkpoint in --out at the very next step, if there is one.",
        ),
        click.option(
            "--time-limit",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="MINUTES",
            help="Save and end cleanly after so long; 0 = no limit.",
        ),
        click.option("--sync-batch-norm", is_flag=True, help="Batch-norm statistics over all GPUs."),
        click.option("--tensorboard", is_flag=True, help="Also write OUT/tensorboard."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
    )


def with_order_of(run: Path, loading: LoaderOptions, *, resume: str) -> LoaderOptions:
    """Returns the options with the order of the run that is to go on, if none was asked for.

    The default depends on where the shards lie, and they may have been copied meanwhile.

    Raises:
        RunError: the run's newest checkpoint is damaged.
    """
    newest = Checkpoints(run).newest()
    if newest is None or resume != "auto" or (loading.shuffle, loading.lanes) != (None, None):
        return loading
    try:
        return replace(loading, **shuffle_of(read_checkpoint(newest)["loader"]))  # type: ignore[arg-type]
    except (KeyError, StateError) as error:
        raise RunError(f"{newest} does not say in which order the run went: {error}") from error


def tell_unfinished(run: Path) -> None:
    """Says on stderr when a run that is read was not finished."""
    done, steps = steps_done(run)
    if done < steps:
        click.echo(
            f"warning: {run} was not finished, {done:,} of {steps:,} steps are done; its weights are taken as they are",
            err=True,
        )


def print_result(result: Result, out: Path, *, chance: float) -> None:
    """Prints how a training ended."""
    if not result.finished:
        click.echo(f"stopped by {result.stopped_by} at step {result.step}; --resume auto goes on from there")
        return
    line = f"{out}: step {result.step}, training accuracy {result.accuracy:.1%} (chance {chance:.1%})"
    if result.validation is not None:
        line += f", validation {result.validation.accuracy:.1%}"
    if result.best is not None and result.best[1] != result.step:
        line += f" (best {result.best[0]:.1%} at step {result.best[1]})"
    click.echo(line)
