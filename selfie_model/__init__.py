"""The Selfie model: pretraining on patches, and a ResNet-50 that starts from it.

    from selfie_model import Classifier, Selfie, presets
    selfie = Selfie(presets.cifar10())

Read in this order: config, presets, resnet, positions, attention_pooling, selfie, classifier, transfer, train.
Importing this package does not import torch; the first use of a model does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from selfie_model import presets
from selfie_model.config import Config, ModelConfig, RuntimeConfig, TrainConfig

if TYPE_CHECKING:
    from selfie_model.attention_pooling import AttentionPooling
    from selfie_model.batch import ImageBatch, PatchBatch
    from selfie_model.classifier import Classifier
    from selfie_model.positions import Positions
    from selfie_model.resnet import PatchNetwork
    from selfie_model.selfie import Selfie
    from selfie_model.transfer import transfer_patch_network

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
    "AttentionPooling": "attention_pooling",
    "Classifier": "classifier",
    "ImageBatch": "batch",
    "PatchBatch": "batch",
    "PatchNetwork": "resnet",
    "Positions": "positions",
    "Selfie": "selfie",
    "transfer_patch_network": "transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
