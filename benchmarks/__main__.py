"""`python -m benchmarks QUESTION`: one subcommand a question, records to `benchmarks/results/`, a table at the end."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks import loader as loader_question
from benchmarks import material
from benchmarks.record import RESULTS, Record, load, save
from benchmarks.table import summary

Shared = Callable[[Callable[..., None]], Callable[..., None]]


def shared(function: Callable[..., None]) -> Callable[..., None]:
    """Options every question has."""
    for option in (
        click.option("--rounds", default=10, show_default=True, help="Interleaved rounds."),
        click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="Cores to use."),
        click.option(
            "--scratch", type=click.Path(path_type=Path), help="Prepared data.  [default: in the temp folder]"
        ),
        click.option(
            "--output", type=click.Path(path_type=Path), help="Records.  [default: benchmarks/results/*.jsonl]"
        ),
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
@click.option("--window", default=0.0, help="Seconds measured a round.  [default: 1.2 at 224 px, 0.6 at 32 px]")
@shared
def loader_command(
    rows: str,
    peers: str,
    dtype: str,
    window: float,
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
    )
    finish(records, output, "loader", quick=quick)


@main.command("show")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
def show(files: Sequence[Path]) -> None:
    """Prints the tables of result files.  [default: all in benchmarks/results]"""
    for path in files or sorted(RESULTS.glob("*.jsonl")):
        click.echo(f"== {path.name}\n{summary(load(path))}\n")


def finish(records: Sequence[Record], output: Path | None, question: str, *, quick: bool) -> None:
    """Saves the records and prints their table; a quick run never replaces the results of a full one."""
    name = f"{question}.quick.jsonl" if quick else f"{question}.jsonl"
    target = output or RESULTS / name
    save(records, target)
    click.echo(summary(records))
    click.echo(f"\n{len(records)} records in {target.name}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
