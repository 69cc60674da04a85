"""`selfie-model report`: a run in, one HTML page out."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.files import write_output
from selfie_data.storage.place import Place
from selfie_model.commands.loading import loader_options
from selfie_model.data import LoaderOptions, open_shards, patch_loader
from selfie_model.study.shards import TEST_IDS

if TYPE_CHECKING:
    from selfie_model.report.puzzles import Puzzle
    from selfie_model.study.table import Row


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=LocalPath(), help="Page to write.  [default: RUN/report.html]")
@click.option("--shards", type=PlaceArgument(), help="Images for puzzles, best ones it did not train on.")
@click.option("--subset", help="Named split or .npy file of ids to take them from.")
@click.option("--images", default=512, show_default=True, type=click.IntRange(min=1), help="How many to try.")
@click.option(
    "--noise",
    type=click.Path(path_type=Path, exists=True),
    help="Pretraining run on noise images, whose curve is drawn beside.",
)
@click.option(
    "--study", type=click.Path(path_type=Path, exists=True), help="Folder of reproduce, whose table is shown."
)
@loader_options
def command(
    run: Path,
    out: Path | None,
    shards: Place | None,
    subset: str | None,
    images: int,
    noise: Path | None,
    study: Path | None,
    loading: LoaderOptions,
) -> None:
    """Writes one self-contained page about RUN: curves, puzzles, attention, the table, the configuration.

    RUN may be the folder of a study: its pretraining is then the run, its table is shown, and puzzles are of its test
    images if they were held out of SHARDS.

    \b
    selfie-model report RUN --shards TEST_SHARDS --noise NOISE_RUN
    """
    from selfie_model.report.report import build_page, read_run_summary

    folder = run
    if (run / "results.json").exists():
        study = study or run
        run = run / "pretrain" / "seed-0" / "run"
    summary = replace(read_run_summary(run), name=folder.resolve().name)
    if shards is not None and summary.kind != "pretrain":
        raise click.UsageError("puzzles are drawn for a pretraining run; leave --shards out")
    puzzles = (
        []
        if shards is None
        else _puzzles(run, shards, loading, subset=subset, images=images, held_out=folder / TEST_IDS)
    )
    rows, notes = ([], []) if study is None else _study(study)
    page = build_page(
        summary, noise=None if noise is None else read_run_summary(noise), puzzles=puzzles, rows=rows, notes=notes
    )
    target = out or folder / "report.html"
    write_output(target, page)
    click.echo(f"{target}: {len(page) / 1e3:,.0f} kB")


def _puzzles(
    run: Path, shards: Place, loading: LoaderOptions, *, subset: str | None, images: int, held_out: Path
) -> "list[Puzzle]":
    from selfie_model.report.puzzles import solve
    from selfie_model.training.checkpoint import read_run
    from selfie_model.training.pretrain import load_selfie

    selfie, config = load_selfie(run)
    config = config.override(pretrain={"batch_size": min(images, 128)})
    dataset = open_shards(shards, config)
    learned_from = read_run(run, kind="pretrain")[0]["data"].get("fingerprint")
    own = held_out if held_out.exists() and dataset.fingerprint == learned_from else None
    found: list[Puzzle] = []
    with closing(patch_loader(dataset, config, loading, subset=subset or own, evaluation=True)) as loader:
        for batch in islice(loader, -(-images // config.pretrain.batch_size)):
            found.extend(puzzle for puzzle in solve(selfie, batch.to("cpu")) if puzzle.sample_id >= 0)
    return found[:images]


def _study(folder: Path) -> "tuple[list[Row], Sequence[str]]":
    from selfie_data.files import damaged, read_json
    from selfie_model.study.results import rows_from_json

    path, remedy = folder / "results.json", "the command `reproduce` that made it writes it anew"
    content = read_json(path, remedy=remedy)
    if content is None:
        raise click.ClickException(f"{folder} holds no results.json of reproduce; give the folder of a study")
    with damaged(path, remedy=remedy):
        return rows_from_json(content), [str(note) for note in content["notes"]]
