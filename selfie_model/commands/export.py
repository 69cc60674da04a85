"""`selfie-model export`: a run in, one file of weights for other programs out."""

from pathlib import Path
from typing import Literal, cast

import click


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["timm", "torchvision", "safetensors", "onnx"]),
    required=True,
    help="timm: resnetv2_50 (variant v2); torchvision: resnet50 (variant v1); both are safetensors files.",
)
@click.option("--out", type=click.Path(path_type=Path), help="File.  [default: RUN/FORMAT.safetensors or .onnx]")
@click.option(
    "--checkpoint",
    "which",
    type=click.Choice(["auto", "best", "last"]),
    default="auto",
    show_default=True,
    help="auto = the best on the validation split, else the last.",
)
def command(run: Path, file_format: str, out: Path | None, which: str) -> None:
    """Writes the weights of RUN for timm, torchvision, ONNX, or as they are.

    \b
    selfie-model export RUN2 --format timm --out resnetv2_50.safetensors

    A pretraining run gives its stem and the stages of P: load them with strict=False.
    """
    from selfie_model.features.export import Format, describe, export_onnx, export_weights
    from selfie_model.training.checkpoint import config_of, find_checkpoint, read_checkpoint
    from selfie_model.training.finetune import load_classifier

    checkpoint = find_checkpoint(run, which=cast(Literal["auto", "best", "last"], which))
    state = read_checkpoint(checkpoint)
    config = config_of(state, checkpoint)
    classes = len(state["class_names"]) if state["kind"] == "finetune" else None
    fingerprint = str(state["data"].get("fingerprint", ""))
    folder = run if run.is_dir() else run.parent
    target = out or folder / (f"{file_format}.onnx" if file_format == "onnx" else f"{file_format}.safetensors")
    weights = state["model"]
    try:
        if file_format == "onnx":
            if classes is None:
                raise ValueError("ONNX is made of a classifier: finetune the run first")
            metadata = describe(weights, config, format="onnx", classes=classes, fingerprint=fingerprint)
            export_onnx(load_classifier(checkpoint)[0], target, metadata=metadata)
        else:
            metadata = export_weights(
                weights, config, target, format=cast(Format, file_format), classes=classes, fingerprint=fingerprint
            )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{target}: {metadata['selfie_part']}; pixels (x / 255 - {metadata['mean']}) / {metadata['std']}")
