"""`selfie-model export`: a run in, one file of weights for other programs out."""

from pathlib import Path
from typing import Any, Literal, cast

import click

from selfie_data.commands.place_argument import LocalPath
from selfie_data.errors import RunError


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["timm", "torchvision", "safetensors", "onnx"]),
    required=True,
    help="timm: resnetv2_50 (variant v2); torchvision: resnet50 (variant v1); both are safetensors files.",
)
@click.option("--out", type=LocalPath(), help="File.  [default: RUN/FORMAT.safetensors or .onnx]")
@click.option(
    "--checkpoint",
    "which",
    type=click.Choice(["auto", "best", "last"]),
    default="auto",
    show_default=True,
    help="auto = the best on the validation split, else the last.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files that stand there.")
def command(run: Path, file_format: str, out: Path | None, which: str, overwrite: bool) -> None:
    """Writes the weights of RUN for timm, torchvision, ONNX, or as they are.

    \b
    selfie-model export RUN2 --format timm --out resnetv2_50.safetensors

    A pretraining run gives its stem and the stages of P: load them with strict=False.
    """
    from selfie_model.commands.running import tell_unfinished
    from selfie_model.features.export import export_onnx, export_weights
    from selfie_model.features.export_facts import Format, describe
    from selfie_model.training.checkpoint import config_of, find_checkpoint, read_checkpoint
    from selfie_model.training.finetune import load_classifier

    checkpoint = find_checkpoint(run, which=cast(Literal["auto", "best", "last"], which))
    state = read_checkpoint(checkpoint)
    config = config_of(state, checkpoint)
    folder = run if run.is_dir() else run.parent
    target = out or folder / (f"{file_format}.onnx" if file_format == "onnx" else f"{file_format}.safetensors")
    _check_target(target, file_format, overwrite=overwrite)
    tell_unfinished(run)
    resize = state["data"].get("resize")
    if resize is None:
        click.echo(f"warning: {run} does not say how its images were resized, so {target} does not either", err=True)
    classes = len(state["class_names"]) if state["kind"] == "finetune" else None
    facts: dict[str, Any] = {
        "classes": classes,
        "fingerprint": str(state["data"].get("fingerprint", "")),
        "class_names": state["class_names"],
        "resize": resize,
    }
    weights = state["model"]
    try:
        if file_format == "onnx":
            if classes is None:
                raise ValueError("ONNX is made of a classifier: finetune the run first")
            metadata = describe(weights, config, format="onnx", **facts)
            export_onnx(load_classifier(checkpoint)[0], target, metadata=metadata)
        else:
            metadata = export_weights(weights, config, target, format=cast(Format, file_format), **facts)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{target}: {metadata['selfie_part']}; pixels (x / 255 - {metadata['mean']}) / {metadata['std']}")


def _check_target(target: Path, file_format: str, *, overwrite: bool) -> None:
    """Refuses to write over what is there without --overwrite, and over a run's own configuration at all.

    Raises:
        RunError: it would.
    """
    from selfie_model.features.export_facts import timm_config_path
    from selfie_model.training.run_folder import CONFIG

    written = [target] if file_format != "timm" else [target, timm_config_path(target)]
    for path in written:
        if path.name == CONFIG and (path.parent / "checkpoints").is_dir():
            raise RunError(f"{path} is the configuration of a run; give another --out")
        if path.exists() and not path.is_dir() and not overwrite:  # a folder cannot be written anyway, and is told so
            raise RunError(f"{path} exists already; give another --out, or --overwrite")
