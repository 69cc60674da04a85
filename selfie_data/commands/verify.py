"""`selfie-data verify`: is every byte of a dataset as it was written?"""

import os
import sys

import click
from tqdm import tqdm

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.verify import verify_dataset
from selfie_data.storage.place import Place, RemotePath


@click.command("verify")
@click.argument("out", type=PlaceArgument())
@click.option("--decode", is_flag=True, help="Decode every image too and compare its size with the table.")
@click.option(
    "--threads",
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="all cores",
    type=click.IntRange(1),
    help="Shards checked at a time.",
)
def command(out: Place, decode: bool, threads: int) -> None:
    """Checks the dataset OUT: every hash, index, count, class histogram and row, and the splits.

    Prints what is wrong, a line each, and exits 1; prints one line and exits 0 if the dataset is sound.
    """
    manifest = Manifest.load(out)
    with tqdm(total=manifest.samples, unit="sample", desc="verify", disable=not sys.stderr.isatty()) as bar:
        problems = verify_dataset(out, decode=decode, threads=threads, progress=bar.update)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        plural = "problem" if len(problems) == 1 else "problems"
        click.echo(
            f"{out}: damaged, {len(problems)} {plural}; restore the files named, or delete the folder and build again",
            err=True,
        )
        raise SystemExit(1)
    decoded = ", every image decoded" if decode else ""
    if isinstance(out, RemotePath) and not out.listable:
        decoded += "; what else lies there was not looked at: a web server has no list of its files"
    click.echo(f"{out}: sound, {manifest.samples:,} samples in {len(manifest.shards)} shards{decoded}")
