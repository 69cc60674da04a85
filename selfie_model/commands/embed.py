"""`selfie-model embed`: a run and shards in, one vector an image out."""

from contextlib import closing
from pathlib import Path
from typing import cast

import click

from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.storage.place import Place
from selfie_model.commands.loading import loader_options
from selfie_model.data import LoaderOptions, image_loader, open_shards


@click.command("embed")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=PlaceArgument())
@click.argument("out", type=LocalPath())
@click.option(
    "--source",
    "kind",
    type=click.Choice(["patches", "image", "attention"]),
    help="patches: mean of P over the grid; image: the trunk on the whole image; attention: A's output at u0.  "
    "[default: patches of a pretraining run, image of a finetuning run]",
)
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1), help="Images at a time.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@loader_options
def command(
    run: Path,
    shards: Place,
    out: Path,
    kind: str | None,
    batch_size: int,
    overwrite: bool,
    loading: LoaderOptions,
) -> None:
    """Writes the embedding of every image of SHARDS into OUT, a zarr group: features[i] belongs to sample id i.

    \b
    selfie-model embed RUN SHARDS embeddings.zarr
    """
    from selfie_model.commands.running import tell_unfinished
    from selfie_model.features.embed import with_gaps, write_embeddings
    from selfie_model.features.encoder import FeatureKind, extract, load_encoder

    tell_unfinished(run)
    try:
        encoder, config = load_encoder(run, kind=cast(FeatureKind | None, kind))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    config = config.override(finetune={"batch_size": batch_size})
    dataset = open_shards(shards, config)
    dataset.refuse_inside(out)
    attributes = {
        "fingerprint": dataset.fingerprint,
        "run": run.resolve().name,
        "source": encoder.kind,
        "preset": config.preset,
    }
    from selfie_model.training.distributed import choose_device

    place = choose_device(loading.device)
    with closing(image_loader(dataset, config, loading, evaluation=True)) as loader:
        samples, width = write_embeddings(
            out,
            with_gaps(extract(encoder, loader, device=place), dataset.excluded),
            samples=len(dataset),
            attributes=attributes,
            overwrite=overwrite,
        )
    click.echo(f"{out}: {samples:,} vectors of {width:,} ({encoder.kind})")
