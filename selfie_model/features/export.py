"""A run's weights → files that other programs read: timm, torchvision, plain safetensors, ONNX.

Every key is renamed by a rule written out here; a key without a rule, a key lost on the way and a wrong shape are
errors, so that no weight is dropped in silence. A pretraining run exports what finetuning would take from it (the stem
and P's stages) and says so in the file's metadata; load it with `strict=False`.

    ours                                timm resnetv2_50 (v2)             torchvision resnet50 (v1)
    stem.conv                           stem.conv                         conv1
    stem.norm                                                             bn1
    stages.S.blocks.B.convK             the same                          layer(S+1).B.convK
    stages.S.blocks.B.normK             the same                          layer(S+1).B.bnK
    stages.S.blocks.B.downsample.conv   the same                          layer(S+1).B.downsample.0
    stages.S.blocks.B.downsample.norm                                     layer(S+1).B.downsample.1
    norm                                norm
    head.weight [C, F]                  head.fc.weight [C, F, 1, 1]       fc.weight [C, F]

Pixels: the exported networks take (pixel / 255 - mean) / std, the ONNX file takes uint8 [B, H, W, 3] and normalises
itself; `export_facts` says what stands in the files about that.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from selfie_data.files import make_output_folder, write_output, write_output_json
from selfie_model.config import Config
from selfie_model.features.export_facts import Format, describe, timm_config, timm_config_path
from selfie_model.network.classifier import Classifier

_OPSET = 18

_TIMM = (
    (r"(stem\.conv\.weight)", r"\1"),
    (r"(stages\.\d+\.blocks\.\d+\.(?:conv[123]|norm[123]|downsample\.conv)\.\w+)", r"\1"),
    (r"norm\.(\w+)", r"norm.\1"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)
_TORCHVISION = (
    (r"stem\.conv\.weight", r"conv1.weight"),
    (r"stem\.norm\.(\w+)", r"bn1.\1"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.conv([123])\.weight", r"layer{stage}.\2.conv\3.weight"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.norm([123])\.(\w+)", r"layer{stage}.\2.bn\3.\4"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\.weight", r"layer{stage}.\2.downsample.0.weight"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.downsample\.norm\.(\w+)", r"layer{stage}.\2.downsample.1.\3"),
    (r"head\.(weight|bias)", r"fc.\1"),
)


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a v2 classifier's state (or the part that P makes of it) to timm's `resnetv2_50`.

    Raises:
        ValueError: a key that has no place there; a v1 network has such keys.
    """
    renamed = _rename(state, _TIMM, library="timm's resnetv2", variant="v2")
    if "head.fc.weight" in renamed:
        renamed["head.fc.weight"] = renamed["head.fc.weight"][:, :, None, None]  # timm's head is a 1x1 convolution
    return renamed


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a v1 classifier's state (or the part that P makes of it) to torchvision's `resnet50`.

    Raises:
        ValueError: a key that has no place there; a v2 network has such keys.
    """
    if "norm.weight" in state or ("stem.conv.weight" in state and "stem.norm.weight" not in state):
        raise ValueError("torchvision has no pre-activation ResNet: export variant v2 as timm, or train variant v1")
    return _rename(state, _TORCHVISION, library="torchvision's resnet", variant="v1")


def network_state(state: Mapping[str, Tensor], config: Config, *, classes: int | None) -> dict[str, Tensor]:
    """Picks the ResNet's own weights out of a run's state, checked against a network built from the configuration.

    Args:
        state: of a Classifier, or of a Selfie module (`classes` None): then the stem and P's stages.
        config: of the run.
        classes: of the classifier; None for a pretraining run.

    Raises:
        ValueError: a key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        wanted = Classifier(config, classes or 2).state_dict()
    if classes is None:
        prefixes = ("stem.", *(f"stages.{stage}." for stage in range(config.model.patch_stages)))
        wanted = {key: value for key, value in wanted.items() if key.startswith(prefixes)}
        state = {key.removeprefix("patch_network."): value for key, value in state.items()}
        state = {key: value for key, value in state.items() if key.startswith(prefixes)}
    else:
        wanted = {key: value for key, value in wanted.items() if not key.startswith("normalise.")}
        state = {key: value for key, value in state.items() if not key.startswith("normalise.")}
    wrong = sorted(wanted.keys() ^ state.keys())
    wrong += sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if wrong:
        raise ValueError(f"{len(wrong)} weights do not fit the configuration, the first is {wrong[0]}")
    return {key: state[key] for key in wanted}


def export_weights(
    state: Mapping[str, Tensor],
    config: Config,
    path: Path,
    *,
    format: Format,
    classes: int | None,
    fingerprint: str,
    class_names: Sequence[str] = (),
    resize: int | None = None,
) -> dict[str, str]:
    """Writes weights as safetensors, atomically: names of timm or torchvision, or (`safetensors`) all of a run's own.

    For timm its configuration is written too, see `export_facts.timm_config_path`.

    Args:
        state: of the run's model.
        config: of the run.
        path: of the file.
        format: whose names the weights get.
        classes, fingerprint, class_names, resize: as `export_facts.describe` takes them.

    Returns:
        The metadata in the file.

    Raises:
        ValueError: the weights cannot be expressed in that format.
    """
    if format == "safetensors":
        tensors = dict(state)
    else:
        picked = network_state(state, config, classes=classes)
        tensors = to_timm(picked) if format == "timm" else to_torchvision(picked)
    metadata = describe(
        state,
        config,
        format=format,
        classes=classes,
        fingerprint=fingerprint,
        class_names=class_names,
        resize=resize,
    )
    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_output(path, save(kept, metadata=metadata))
    if format == "timm":
        write_output_json(timm_config_path(path), timm_config(metadata, config))
    return metadata


def export_onnx(classifier: Classifier, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Writes a classifier as ONNX: `image` uint8 [batch, H, W, 3] → `logits` float32 [batch, classes].

    Raises:
        ValueError: the package `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError("ONNX export needs the package onnx, the extra `onnx`: pip install onnx") from error
    size = classifier.config.model.image_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    make_output_folder(path.parent)
    try:
        with warnings.catch_warnings():
            # The exporter that needs no further package warns that it is not the newest one.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Logits(classifier).eval(),
                (example,),
                str(temporary),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, {**dict(metadata), "selfie_format": "onnx"})
        onnx.checker.check_model(model)
        write_output(path, model.SerializeToString())
    finally:
        temporary.unlink(missing_ok=True)


class _Logits(nn.Module):
    """Tensor in, tensor out: what an exporter can trace."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier.head(self.classifier.features(image))
        return logits


def _rename(
    state: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...], *, library: str, variant: str
) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        match = next(((found, new) for old, new in rules if (found := re.fullmatch(old, key))), None)
        if match is None:
            raise ValueError(f"{library} has no place for {key}: only variant {variant} can be exported to it")
        found, new = match
        stage = int(found.group(1)) + 1 if "{stage}" in new else 0
        target = found.expand(new).replace("{stage}", str(stage))
        if target in renamed:
            raise ValueError(f"two weights would both become {target}")
        renamed[target] = value
    return renamed
