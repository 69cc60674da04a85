"""`selfie-model probe`: how good are a run's frozen features?"""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.opened import Dataset
from selfie_data.storage.place import Place
from selfie_model.commands.loading import loader_options
from selfie_model.data import LoaderOptions, check_held_out, check_labels, image_loader, open_shards

if TYPE_CHECKING:
    from selfie_model.config import Config
    from selfie_model.features.encoder import FeatureExtractor, Features


@click.command("probe")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=PlaceArgument())
@click.option(
    "--test",
    type=PlaceArgument(),
    help="Shards to measure on, with the same classes.  [default: the split `validation`, learning from `train-100`]",
)
@click.option(
    "--source",
    "kind",
    type=click.Choice(["patches", "image", "attention"]),
    help="patches: mean of P over the grid; image: the trunk on the whole image; attention: A's output at u0.  "
    "[default: patches of a pretraining run, image of a finetuning run]",
)
@click.option("--subset", help="Named split or .npy file of ids to learn from.")
@click.option("--neighbours", default=20, show_default=True, type=click.IntRange(min=1), help="k that vote.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@loader_options
def command(
    run: Path,
    shards: Place,
    test: Place | None,
    kind: str | None,
    subset: str | None,
    neighbours: int,
    as_json: bool,
    loading: LoaderOptions,
) -> None:
    """Measures a linear classifier and nearest neighbours on the frozen features of RUN.

    \b
    selfie-model probe RUN SHARDS --test TEST_SHARDS
    """
    from selfie_model.commands.running import tell_unfinished
    from selfie_model.features.encoder import FeatureKind, load_encoder
    from selfie_model.features.probe import linear_probe, nearest_neighbours

    tell_unfinished(run)
    try:
        encoder, config = load_encoder(run, kind=cast(FeatureKind | None, kind))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    learned = open_shards(shards, config)
    measured = learned if test is None else open_shards(test, config)
    if measured.class_names != learned.class_names:
        raise click.UsageError(f"the classes of {test} are not those of {shards}; build it with --classes-from")
    train_subset = subset or ("train-100" if test is None else None)
    if test is None:
        check_held_out(learned, train_subset, instead="give --test")
    test_subset = "validation" if test is None else None
    check_labels(learned, train_subset)
    check_labels(measured, test_subset)
    train = _features(encoder, learned, config, loading, train_subset)
    tested = _features(encoder, measured, config, loading, test_subset)
    classes = len(learned.class_names)
    try:
        linear = linear_probe(train, tested, classes=classes)
        nearest = nearest_neighbours(train, tested, classes=classes, k=neighbours)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        content = {
            "source": encoder.kind,
            "linear": linear.accuracy,
            "strength": linear.strength,
            "nearest": nearest,
            "k": neighbours,
            "chance": 1 / classes,
            "learned_from": len(train.label),
            "measured_on": len(tested.label),
        }
        click.echo(json.dumps(content))
        return
    click.echo(
        f"features {encoder.kind}, {train.vector.shape[1]:,} wide; learned from {len(train.label):,} images, "
        f"measured on {len(tested.label):,}; chance {1 / classes:.2%}\n"
        f"linear              {linear.accuracy:.2%}  (L2 {linear.strength:g}, chosen on a tenth of the former)\n"
        f"{neighbours:>3} neighbours      {nearest:.2%}"
    )


def _features(
    encoder: "FeatureExtractor", dataset: Dataset, config: "Config", loading: LoaderOptions, subset: str | None
) -> "Features":
    from selfie_model.features.encoder import extract, gather
    from selfie_model.training.distributed import choose_device

    with closing(image_loader(dataset, config, loading, subset=subset, evaluation=True)) as loader:
        return gather(extract(encoder, loader, device=choose_device(loading.device)))
