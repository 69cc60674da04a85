"""The options of a command that say how its images are loaded, collected into one `LoaderOptions`."""

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from selfie_data.commands.place_argument import LocalPath
from selfie_model.data import LoaderOptions

Command = TypeVar("Command", bound=Callable[..., Any])


def loader_options(function: Command) -> Command:
    """Adds device, backend, threads and store, and collects a command's loader options into its argument `loading`."""

    @functools.wraps(function)
    def collecting(*args: Any, **kwargs: Any) -> Any:
        names = [field.name for field in fields(LoaderOptions) if field.name in kwargs]
        return function(*args, loading=LoaderOptions(**{name: kwargs.pop(name) for name in names}), **kwargs)

    return add_options(
        cast(Command, collecting),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to compute; auto = a GPU if there is one.",
        ),
        click.option(
            "--backend",
            type=click.Choice(["auto", "cpu", "fused", "gpu", "dali-operators", "dali", "store", "reference"]),
            default="auto",
            show_default=True,
            help="How batches are made; all give the same ones.",
        ),
        click.option(
            "--decode",
            type=click.Choice(["mixed", "cpu"]),
            default="mixed",
            show_default=True,
            help="Of the backend gpu: cpu gives the pixels of a CPU to the bit, mixed decodes on the GPU.",
        ),
        click.option("--threads", type=click.IntRange(min=0), default=0, help="Of the loader; 0 = all cores."),
        click.option(
            "--store",
            type=click.Path(path_type=Path, exists=True),
            help="Pixel store to hold in memory (selfie-data export-store).",
        ),
    )


def training_loader_options(function: Command) -> Command:
    """Adds what only trainings ask of a loader; stands above `loader_options`, which collects these too."""
    return add_options(
        function,
        click.option("--exclude", type=LocalPath(), help="File of ids to leave out, .npy or .txt."),
        click.option(
            "--on-error",
            type=click.Choice(["fail", "record"]),
            default="fail",
            show_default=True,
            help="record: a corrupt image ends the run too, but its id is added to --exclude FILE.txt, and a new run "
            "goes without it.",
        ),
        click.option(
            "--shuffle",
            metavar="global|lanes|SHARDS",
            callback=lambda _context, _option, value: int(value) if value and value.isdigit() else value,
            help="A number: shuffle inside windows of so many shards, for slow disks. lanes: ranks read shards of "
            "their own.  [default: global, at a URL lanes]",
        ),
        click.option(
            "--lanes", type=click.IntRange(min=1), help="Of --shuffle lanes, divide the batch.  [default: up to 64]"
        ),
        click.option(
            "--verify",
            type=click.Choice(["first", "always", "never"]),
            default="first",
            show_default=True,
            help="When checksums of images are checked.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["uint8", "float16", "bfloat16", "float32"]),
            default="uint8",
            show_default=True,
            help="Of the loader's pixels; floats are normalised by it, uint8 by the model.",
        ),
    )


def add_options(function: Command, *options: Callable[[Command], Command]) -> Command:
    """Adds click options to a command, listed by `--help` in this order."""
    for option in reversed(options):
        function = option(function)
    return function
