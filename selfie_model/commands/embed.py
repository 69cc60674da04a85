"""`selfie-model embed`: a run and shards in, one vector an image out."""

from contextlib import closing
from pathlib import Path
from typing import cast

import click

from selfie_model.data import Source, image_loader, open_shards, source_options


@click.command("embed")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "feature_source",
    type=click.Choice(["patches", "image", "attention"]),
    help="patches: mean of P over the grid; image: the trunk on the whole image; attention: A's output at u0.  "
    "[default: patches of a pretraining run, image of a finetuning run]",
)
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1), help="Images at a time.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@source_options
def command(
    run: Path,
    shards: Path,
    out: Path,
    feature_source: str | None,
    batch_size: int,
    overwrite: bool,
    device: str,
    backend: str,
    threads: int,
    store: Path | None,
) -> None:
    """Writes the embedding of every image of SHARDS into OUT, a zarr group: features[i] belongs to sample id i.

    \b
    selfie-model embed RUN SHARDS embeddings.zarr
    """
    from selfie_model.features.embed import write_embeddings
    from selfie_model.features.encoder import Source as FeatureSource
    from selfie_model.features.encoder import extract, load_encoder

    try:
        encoder, config = load_encoder(run, source=cast(FeatureSource | None, feature_source))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    config = config.override(finetune={"batch_size": batch_size})
    dataset = open_shards(shards, config)
    source = Source(device=device, backend=backend, threads=threads, store=store)
    attributes = {
        "fingerprint": dataset.fingerprint,
        "run": run.resolve().name,
        "source": encoder.source,
        "preset": config.preset,
    }
    from selfie_model.training.distributed import choose_device

    place = choose_device(device)
    with closing(image_loader(dataset, config, source, evaluation=True)) as loader:
        samples, width = write_embeddings(
            out,
            extract(encoder, loader, device=place),
            samples=len(dataset),
            attributes=attributes,
            overwrite=overwrite,
        )
    click.echo(f"{out}: {samples:,} vectors of {width:,} ({encoder.source})")
