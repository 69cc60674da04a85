"""`selfie-model evaluate`: a run and shards in, loss and accuracy out."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast

import click

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.storage.place import Place
from selfie_model.commands.loading import loader_options
from selfie_model.data import LoaderOptions, image_loader, open_shards, patch_loader, unlabelled


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=PlaceArgument())
@click.option("--subset", help="Named split or .npy file of ids to measure on.  [default: every sample]")
@click.option(
    "--checkpoint",
    "which",
    type=click.Choice(["auto", "best", "last"]),
    default="auto",
    show_default=True,
    help="auto = the best on the validation split, else the last.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images at a time.  [default: that of training]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@loader_options
def command(
    run: Path,
    shards: Place,
    subset: str | None,
    which: str,
    batch_size: int | None,
    as_json: bool,
    loading: LoaderOptions,
) -> None:
    """Measures a run on SHARDS: a classifier on the labels, a pretraining run on putting patches back.

    \b
    selfie-model evaluate RUN2 TEST_SHARDS
    """
    from selfie_model.commands.running import tell_unfinished
    from selfie_model.training.checkpoint import config_of, find_checkpoint, read_checkpoint
    from selfie_model.training.distributed import process_group
    from selfie_model.training.evaluate import evaluate
    from selfie_model.training.finetune import load_classifier
    from selfie_model.training.precision import place
    from selfie_model.training.pretrain import load_selfie

    path = find_checkpoint(run, which=cast(Literal["auto", "best", "last"], which))
    state = read_checkpoint(path)
    config = config_of(state, path)
    kind = state["kind"]
    if batch_size is not None:
        config = config.override(pretrain={"batch_size": batch_size}, finetune={"batch_size": batch_size})
    dataset = open_shards(shards, config)
    with process_group(loading.device) as ranks:
        if ranks.writes:
            tell_unfinished(run)
        model: Any
        loader: Any
        if kind == "pretrain":
            model, chance = load_selfie(path)[0], 1 / config.model.target
            loader = patch_loader(dataset, config, loading, subset=subset, evaluation=True)
        else:
            model, _, class_names = load_classifier(path)
            chance = 1 / len(class_names)
            if dataset.class_names != class_names:
                raise click.UsageError(
                    f"the run's classes are {_some(class_names)}, those of {shards} are {_some(dataset.class_names)}; "
                    "build the test shards with --classes-from TRAINING_SHARDS"
                )
            missing, images = unlabelled(dataset, subset)
            if missing and ranks.writes:
                click.echo(f"warning: {missing:,} of {images:,} images have no label and are not counted", err=True)
            loader = image_loader(dataset, config, loading, subset=subset, evaluation=True)
        place(model, ranks.device, config.runtime)
        try:
            with closing(loader):
                metrics = evaluate(model, loader, ranks=ranks, runtime=config.runtime)
        except ValueError as error:
            raise click.ClickException(f"{shards}: {error}") from error
        if not ranks.writes:
            return
    if as_json:
        content = {**metrics._asdict(), "chance": chance, "kind": kind, "step": state["step"], "checkpoint": path.name}
        click.echo(json.dumps(content))
    else:
        click.echo(
            f"{path.name}: accuracy {metrics.accuracy:.2%} (chance {chance:.2%}), loss {metrics.loss:.4f}, "
            f"{metrics.counted:,} {'hidden patches' if kind == 'pretrain' else 'images'}"
        )


def _some(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
