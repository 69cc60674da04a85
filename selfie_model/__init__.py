"""The Selfie model: pretraining on patches, and a ResNet-50 that starts from it.

    from selfie_model import Classifier, Selfie, presets, transfer_patch_network
    selfie = Selfie(presets.cifar10())

Read in this order: config, presets, resnet, positions, attention_pooling, selfie, classifier, transfer, train.
"""

from selfie_model import presets
from selfie_model.attention_pooling import AttentionPooling
from selfie_model.batch import ImageBatch, PatchBatch
from selfie_model.classifier import Classifier
from selfie_model.config import Config, ModelConfig, RuntimeConfig, TrainConfig
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
