"""The Selfie model: pretraining on patches, and a ResNet-50 that starts from it.

    from selfie_model import Classifier, Selfie, presets
    selfie = Selfie(presets.cifar10())

Read in this order: config, presets; network: resnet, positions, attention_pooling, selfie, classifier, transfer;
training: loop.
Importing this package does not import torch; the first use of a model does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from selfie_model import presets
from selfie_model.config import Config, ModelConfig, RuntimeConfig, TrainConfig

if TYPE_CHECKING:
    from pipelines.batch import ImageBatch, PatchBatch
    from selfie_model.network.attention_pooling import AttentionPooling
    from selfie_model.network.classifier import Classifier
    from selfie_model.network.positions import Positions
    from selfie_model.network.resnet import PatchNetwork
    from selfie_model.network.selfie import Selfie
    from selfie_model.network.transfer import transfer_patch_network

__all__ = [
    "AttentionPooling",
    "Classifier",
    "Config",
    "ImageBatch",
    "ModelConfig",
    "PatchBatch",
    "PatchNetwork",
    "Positions",
    "RuntimeConfig",
    "Selfie",
    "TrainConfig",
    "presets",
    "transfer_patch_network",
]

_HOMES = {
    "AttentionPooling": "selfie_model.network.attention_pooling",
    "Classifier": "selfie_model.network.classifier",
    "ImageBatch": "pipelines.batch",
    "PatchBatch": "pipelines.batch",
    "PatchNetwork": "selfie_model.network.resnet",
    "Positions": "selfie_model.network.positions",
    "Selfie": "selfie_model.network.selfie",
    "transfer_patch_network": "selfie_model.network.transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
