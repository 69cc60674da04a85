"""The whole ResNet-50 on whole images: what finetuning trains, from P's stages or from scratch, in the very same code.

Source: the paper, section "Finetuning": stages 0-2 and their stem come from P, stage 3 and the linear layer are fresh,
everything is trained.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.batch import ImageBatch
from selfie_model.config import Config
from selfie_model.network.normalise import Normalise
from selfie_model.network.resnet import average, initialise, make_final_norm, make_stages, make_stem, stage_width


class ClassifierOutput(NamedTuple):
    """What a batch of B labelled images gave.

    Attributes:
        loss: scalar, mean cross-entropy over the images with a label; 0 when none has one.
        accuracy: scalar, share of them whose largest logit is right.
        counted: scalar, images with a label.
        logits: [B, classes] float32.
    """

    loss: Tensor
    accuracy: Tensor
    counted: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """Four stages, average over the map, one linear layer."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a classifier needs two classes or more, got {classes}")
        self.config = config
        self.classes = classes
        stages = len(config.model.blocks)
        self.normalise = Normalise()
        self.stem = make_stem(config)
        self.stages = make_stages(config, stages)
        self.norm = make_final_norm(config, stages)
        self.head = nn.Linear(stage_width(config, stages - 1), classes)
        initialise(self)

    def forward(self, batch: ImageBatch) -> ClassifierOutput:
        """Returns loss, accuracy and logits of a batch on the module's device; label -1 counts nowhere."""
        logits = self.head(self.features(batch.image)).float()
        labelled = batch.label >= 0
        count = labelled.sum()
        share = count.clamp(min=1)
        loss = F.cross_entropy(logits, batch.label, ignore_index=-1, reduction="sum") / share
        accuracy = ((logits.argmax(dim=1) == batch.label) & labelled).sum() / share
        return ClassifierOutput(loss, accuracy, count, logits)

    def features(self, image: Tensor) -> Tensor:
        """Maps images [B, H, W, 3], uint8 or normalised floats, to the averages before the head, [B, features]."""
        pixels = self.normalise(image).permute(0, 3, 1, 2)
        return average(self.norm(self.stages(self.stem(pixels))))
