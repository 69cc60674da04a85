"""What an exported file says of itself: the network, its classes, and what is done to an image before it.

    key                  value (texts; lists as JSON)
    class_names          names of the labels 0, 1, …; [] of a pretraining run
    image_size           S, pixels
    resize               shorter side an image is shrunk or enlarged to, pixels; empty if the run does not say
    interpolation        bilinear, antialiased
    crop                 center: the central S x S
    mean, std            the network takes (pixel / 255 - mean) / std
    selfie_*             format, configuration, dataset, number of classes, whether it is a part of a network

Safetensors and ONNX files hold it as their metadata; timm reads a `config.json`, which says the same in its words.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from selfie_model.config import Config
from selfie_model.network.resnet import stage_width

Format = Literal["timm", "torchvision", "safetensors", "onnx"]


def describe(
    state: Mapping[str, Tensor],
    config: Config,
    *,
    format: Format,
    classes: int | None,
    fingerprint: str,
    class_names: Sequence[str] = (),
    resize: int | None = None,
) -> dict[str, str]:
    """Returns what a file says of itself.

    Args:
        state: of the run's model.
        config: of the run.
        format: of the file.
        classes: of the classifier; None for a pretraining run.
        fingerprint: of the dataset that was learned from.
        class_names: of the labels 0, 1, ….
        resize: shorter side of an image when its centre is cropped, pixels; None = not known.
    """
    scale, bias = state["normalise.scale"].double(), state["normalise.bias"].double()
    std = 1 / (255 * scale)
    return {
        "format": "pt",  # what loaders of safetensors files look for
        "selfie_format": format,
        "selfie_config": json.dumps(config.to_dict(), sort_keys=True),
        "selfie_fingerprint": fingerprint,
        "selfie_classes": "" if classes is None else str(classes),
        "selfie_part": "stem and the stages of P; load with strict=False" if classes is None else "whole network",
        "class_names": json.dumps(list(class_names)),
        "image_size": str(config.model.image_size),
        "resize": "" if resize is None else str(resize),
        "interpolation": "bilinear",
        "crop": "center",
        "mean": json.dumps([round(value, 7) for value in (-bias * std).tolist()]),
        "std": json.dumps([round(value, 7) for value in std.tolist()]),
    }


def timm_config(metadata: Mapping[str, str], config: Config) -> dict[str, Any]:
    """Returns timm's `config.json` of a file with this metadata; the small stem (3x3) is one that timm has not."""
    model = config.model
    size, classes = model.image_size, int(metadata["selfie_classes"] or 0)
    widths = [stage_width(config, stage) for stage in range(len(model.blocks))]
    pixels = {
        "input_size": [3, size, size],
        "fixed_input_size": False,
        "interpolation": metadata["interpolation"],
        "crop_mode": metadata["crop"],
        "mean": json.loads(metadata["mean"]),
        "std": json.loads(metadata["std"]),
    }
    if metadata["resize"]:
        pixels["crop_pct"] = _crop_share(size, int(metadata["resize"]))
    return {
        "architecture": "resnetv2_50",
        "num_classes": classes,
        "num_features": widths[-1],
        "label_names": json.loads(metadata["class_names"]),
        "model_args": {"layers": list(model.blocks), "channels": widths, "stem_chs": model.width},
        "pretrained_cfg": {**pixels, "num_classes": classes, "first_conv": "stem.conv", "classifier": "head.fc"},
    }


def timm_config_path(path: Path) -> Path:
    """Returns where timm's configuration of the weights at `path` stands.

    `FOLDER/config.json` beside `FOLDER/model.safetensors`, which `timm.create_model("local-dir:FOLDER")` reads; any
    other name ends in .json instead.
    """
    return path.with_name("config.json") if path.name == "model.safetensors" else path.with_suffix(".json")


def _crop_share(size: int, resize: int) -> float:
    """Returns size / resize; one bit less at the few sizes where timm's floor(size / share) would miss `resize`."""
    share = size / resize
    return share if math.floor(size / share) == resize else math.nextafter(share, 0)
