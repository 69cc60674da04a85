"""A trained run as a frozen function from images to vectors.

    kind         of a pretraining run                                             width
    patches      P on every patch of the grid, mean over the patches              embedding (1,024)
    image        P on the whole image: stem, stages, norm, ReLU, average          embedding (1,024)
    attention    A's output at u0 with every patch of the grid in its context     embedding (1,024)

    kind         of a finetuning run
    image        the whole ResNet, average before the classifier                  2 · embedding (2,048)

`patches` is what P was trained on, `image` is how finetuning uses P's weights (on sizes of map that it has not met in
pretraining), `attention` sees more patches at once than in training.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.batch import ImageBatch
from pipelines.sampling.grid import patchify
from selfie_data.errors import RunError
from selfie_model.config import Config
from selfie_model.network.classifier import Classifier
from selfie_model.network.selfie import Selfie
from selfie_model.training.checkpoint import find_checkpoint, read_checkpoint
from selfie_model.training.finetune import load_classifier
from selfie_model.training.pretrain import load_selfie

FeatureKind = Literal["patches", "image", "attention"]


class Features(NamedTuple):
    """Vectors of N images, padding left out, in the loader's order.

    Attributes:
        vector: float32 [N, D].
        label: int64 [N], -1 where there is none.
        sample_id: int64 [N].
    """

    vector: NDArray[np.float32]
    label: NDArray[np.int64]
    sample_id: NDArray[np.int64]


class FeatureExtractor(nn.Module):
    """Maps images [B, H, W, 3], uint8 or normalised, to vectors [B, D] float32; weights frozen, evaluation mode."""

    def __init__(self, network: Selfie | Classifier, kind: FeatureKind) -> None:
        super().__init__()
        if isinstance(network, Classifier) and kind != "image":
            raise ValueError(f"a finetuning run has features of the whole image only, got source {kind!r}")
        self.network = network.eval().requires_grad_(False)
        self.kind = kind

    @torch.inference_mode()
    def forward(self, image: Tensor) -> Tensor:
        if isinstance(self.network, Classifier):
            return self.network.features(image).float()
        pixels = self.network.normalise(image)
        if self.kind == "image":
            vector: Tensor = self.network.patch_network(pixels.permute(0, 3, 1, 2))
            return vector.float()
        patches = patchify(pixels, self.network.config.model.patch_size)
        flat = patches.flatten(0, 1).permute(0, 3, 1, 2)
        h = self.network.patch_network(flat).view(*patches.shape[:2], -1)
        if self.kind == "patches":
            mean: Tensor = h.mean(dim=1)
            return mean.float()
        cells = torch.arange(h.shape[1], device=h.device).expand(len(h), -1)
        u: Tensor = self.network.attention_pooling(self.network.sequence(h, cells))
        return u.float()


def load_encoder(run: Path, *, kind: FeatureKind | None = None) -> tuple[FeatureExtractor, Config]:
    """Returns a run's encoder and configuration; `kind` None is `patches` of a pretraining run, `image` of another.

    Raises:
        RunError: no such run.
        ValueError: the run has no such features.
    """
    run_kind = read_checkpoint(find_checkpoint(run))["kind"]
    if run_kind == "pretrain":
        selfie, config = load_selfie(run)
        return FeatureExtractor(selfie, kind or "patches"), config
    if run_kind == "finetune":
        classifier, config, _ = load_classifier(run)
        return FeatureExtractor(classifier, kind or "image"), config
    raise RunError(f"{run} holds a run of kind {run_kind}; features come from pretrain or finetune")


def extract(encoder: FeatureExtractor, loader: Iterable[ImageBatch], *, device: torch.device) -> Iterable[Features]:
    """Yields the features of one batch after the other, padding left out."""
    encoder.to(device)
    for batch in loader:
        vector = encoder(batch.image.to(device, non_blocking=True)).cpu().numpy()
        sample_id = batch.sample_id.cpu().numpy()
        real = sample_id >= 0
        yield Features(vector[real], batch.label.cpu().numpy()[real], sample_id[real])


def gather(parts: Iterable[Features]) -> Features:
    """Joins the features of many batches.

    Raises:
        ValueError: there are none.
    """
    kept = list(parts)
    if not sum(len(part.label) for part in kept):
        raise ValueError("there is no image to take features of")
    return Features(*(np.concatenate([part[column] for part in kept]) for column in range(3)))
