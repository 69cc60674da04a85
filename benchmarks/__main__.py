"""`python -m benchmarks QUESTION`: one subcommand a question, records to `benchmarks/results/`, a table at the end."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import click

from benchmarks import (
    build_shards,
    cpu_step,
    engines,
    patch_stage,
    photograph,
    plans,
    scaling,
    selections,
    startup,
    train_step,
    trainers,
)
from benchmarks import loader as loader_question
from benchmarks.evidence import (
    ablations,
    bucket_builds,
    elastic,
    opening,
    orders,
    remote_epoch,
    repeat_cell,
    study_record,
)
from benchmarks.harness.plot import chart
from benchmarks.harness.record import RESULTS, Record, load, record_files, save
from benchmarks.harness.table import summary
from benchmarks.work import material

PATH = click.Path(path_type=Path)
against_option = click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Another checkout of this project, measured in the same rounds.",
)


def shared(function: Callable[..., None]) -> Callable[..., None]:
    """Options every question has."""
    for option in (
        click.option("--rounds", default=10, show_default=True, help="Interleaved rounds."),
        click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="Cores to use."),
        click.option("--scratch", type=PATH, help="Prepared data.  [default: in the temp folder]"),
        click.option("--output", type=PATH, help="Records.  [default: benchmarks/results/*.jsonl]"),
        click.option("--quick", is_flag=True, help="Ours, the two best peers a row, the floors; few rounds."),
    ):
        function = option(function)
    return function


@click.group()
def main() -> None:
    """Benchmarks of Selfie. SELFIE_TEST_DATA names the folder of the real images; without it, synthetic ones."""


@main.command("loader")
@click.option("--rows", default="", help="Comma-separated rows.  [default: all]")
@click.option("--peers", default="all", show_default=True, help="all, best, none, or names joined by commas.")
@click.option("--dtype", type=click.Choice(["float32", "uint8", "both"]), default="float32", show_default=True)
@click.option("--window", default=0.0, help="Seconds measured a round.  [default: 0.9 at 224 px, 0.4 at 32 px]")
@against_option
@shared
def loader_command(
    rows: str,
    peers: str,
    dtype: str,
    window: float,
    against: Path | None,
    rounds: int,
    threads: int,
    scratch: Path | None,
    output: Path | None,
    quick: bool,
) -> None:
    """Images a second from shards to patch batches, beside peers and floors."""
    windows = loader_question.Windows(large_s=window, small_s=window) if window else loader_question.Windows()
    records = loader_question.run(
        names=[name for name in rows.split(",") if name],
        peers="best" if quick else peers,
        rounds=min(rounds, 3) if quick else rounds,
        dtypes=("float32", "uint8") if dtype == "both" else (dtype,),
        threads=threads,
        scratch=scratch or material.default_folder(),
        images=material.images_folder(),
        windows=windows,
        against=against,
        keep=lambda records: save(records, target_of(output, "loader", quick=quick)),
    )
    finish(records, output, "loader", quick=quick)


@main.command("build-shards")
@against_option
@shared
def build_shards_command(
    against: Path | None, rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool
) -> None:
    """Images a second from files to shards, beside Pillow or OpenCV with webdataset.ShardWriter."""
    share = 0.34 if quick else 1.0
    simple(build_shards, rounds, threads, scratch, output, quick, share=share, against=against)


def ask(question: ModuleType, text: str) -> click.Command:
    """Adds the command of a question that needs nothing but the shared options."""

    @shared
    def command(rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool) -> None:
        simple(question, rounds, threads, scratch, output, quick)

    return main.command(question.QUESTION.replace("_", "-"), help=text)(command)


patch_stage_command = ask(patch_stage, "Resize, flip, cut, normalise of images in memory, beside a copy of the bytes.")
ask(engines, "Two workers beside one, by every engine of a build, and whether their bytes are the same.")
ask(photograph, "Where a photograph's processor time goes: read, cut, decode, resize, normalise, and between these.")
train_step_command = ask(train_step, "One pretraining step on the loader's batches, beside it on a cached batch.")
ask(trainers, "The pretraining step under PyTorch Lightning, beside a plain loop (extra `examples`).")
scaling_command = ask(scaling, "Images a second with more threads, and with more ranks on one machine.")


@main.command("cpu-step")
@shared
def cpu_step_command(rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool) -> None:
    """A pretraining step on a CPU by number format, memory layout and batch size; needs no images."""
    del scratch
    records = cpu_step.run(rounds=min(rounds, 3) if quick else rounds, threads=threads)
    finish(records, output, cpu_step.QUESTION, quick=quick)


@main.command("selections")
@shared
def selections_command(rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool) -> None:
    """Draws a second of every selection by name; needs no images."""
    del threads, scratch
    finish(selections.run(rounds=min(rounds, 3) if quick else rounds), output, selections.QUESTION, quick=quick)


@main.command("plans")
@shared
def plans_command(rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool) -> None:
    """How evenly a build's plans, by blocks or not, mix the classes; --rounds is ignored."""
    del rounds, threads
    records = plans.run(scratch=scratch or material.default_folder(), images=material.images_folder())
    finish(records, output, "plan_mix", quick=quick)


for evidence in (ablations, study_record, repeat_cell, elastic, orders, opening, bucket_builds, remote_epoch):
    main.add_command(evidence.command)


@main.command("startup")
@click.option("--samples", default=startup.SAMPLES, show_default=True, help="Size of the dataset.")
@shared
def startup_command(
    samples: int, rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool
) -> None:
    """Seconds until the first batch of a large dataset."""
    simple(startup, rounds, threads, scratch, output, quick, samples=100_000 if quick else samples)


@main.command("all")
@shared
@click.pass_context
def all_command(
    context: click.Context, rounds: int, threads: int, scratch: Path | None, output: Path | None, quick: bool
) -> None:
    """Every question, one after the other; `--quick` within ten minutes on two cores."""
    if output:
        raise click.UsageError("`all` writes one file a question; leave --output out")
    options = {"rounds": rounds, "threads": threads, "scratch": scratch, "output": None, "quick": quick}
    first = (build_shards_command, patch_stage_command, train_step_command)
    for question in (*first, startup_command, scaling_command, loader_command):
        click.echo(f"\n== {question.name}")
        context.invoke(question, **options)


@main.command("plot")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
def plot_command(files: Sequence[Path]) -> None:
    """Draws result files as SVG beside them.  [default: all in benchmarks/results]"""
    for path in files or record_files(RESULTS):
        target = path.with_suffix(".svg")
        target.write_text(chart(load(path)))
        click.echo(target.name)


@main.command("show")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
def show(files: Sequence[Path]) -> None:
    """Prints the tables of result files.  [default: all in benchmarks/results]"""
    for path in files or record_files(RESULTS):
        click.echo(f"== {path.name}\n{summary(load(path))}\n")


def simple(
    question: ModuleType,
    rounds: int,
    threads: int,
    scratch: Path | None,
    output: Path | None,
    quick: bool,
    **extra: object,
) -> None:
    """Runs a question that needs nothing but the shared options."""
    records = question.run(
        rounds=min(rounds, 3) if quick else rounds,
        threads=threads,
        scratch=scratch or material.default_folder(),
        images=material.images_folder(),
        **extra,
    )
    finish(records, output, question.QUESTION, quick=quick)


def target_of(output: Path | None, question: str, *, quick: bool) -> Path:
    """The file that the records go to."""
    return output or RESULTS / (f"{question}.quick.jsonl" if quick else f"{question}.jsonl")


def finish(records: Sequence[Record], output: Path | None, question: str, *, quick: bool) -> None:
    """Saves the records and prints their table; a quick run never replaces the results of a full one."""
    target = target_of(output, question, quick=quick)
    save(records, target)
    click.echo(summary(records))
    click.echo(f"\n{len(records)} records in {target.name}")


def _stop(number: int, frame: object) -> None:
    """SIGTERM ends the run like Ctrl-C, so that the systems' processes are ended too."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    main(prog_name="python -m benchmarks")
