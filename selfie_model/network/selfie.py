"""The pretraining task: which of these patches belongs into that place?

    patches [B, N, p, p, 3] ──P──> h [B, N, D] ─┬─ context h + positions, after u0 ──A──> u [B, D]
                                                └─ target h_t
    v_t = u + position(t)          one query a hidden cell
    logits[t, s] = v_t · h_s / √D  against every target patch of the same image
    loss = cross-entropy, the right answer to cell t being patch t

The other targets of the image are the distractors. No softmax here: cross-entropy takes the logits.

Source: the paper, section "Selfie". Scaling by 1/√D is ours: raw dot products start at a loss of 8.1 where chance is
log 4 = 1.39 (decision 020).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.batch import PatchBatch
from selfie_model.config import Config
from selfie_model.network.attention_pooling import AttentionPooling
from selfie_model.network.normalise import Normalise
from selfie_model.network.positions import Positions
from selfie_model.network.resnet import PatchNetwork


class SelfieOutput(NamedTuple):
    """What a batch of B images with T targets gave.

    Attributes:
        loss: scalar, mean cross-entropy over the B·T predictions.
        accuracy: scalar, share of the B·T predictions that are right.
        counted: scalar, how many predictions were counted: B·T without those of padding (sample_id -1).
        logits: [B, T, T], row = hidden cell, column = patch that might belong there; float32.
        embedding: u, [B, D].
    """

    loss: Tensor
    accuracy: Tensor
    counted: Tensor
    logits: Tensor
    embedding: Tensor


class Selfie(nn.Module):
    """P, A, positions and u0, trained together.

    Attributes:
        u0: [D], learned; its place in the sequence becomes the image's embedding.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.normalise = Normalise()
        self.patch_network = PatchNetwork(config)
        self.attention_pooling = AttentionPooling(config)
        self.positions = Positions(config)
        self.u0 = nn.Parameter(nn.init.trunc_normal_(torch.empty(config.model.embedding), std=0.02))

    def forward(self, batch: PatchBatch) -> SelfieOutput:
        """Returns loss, accuracy and logits of a batch on the module's device.

        Raises:
            ValueError: the batch has no target patches of its own.
        """
        if batch.target_cells is not None:
            raise ValueError(
                "Selfie puts target patches back into their cells; a batch of selection multiblock has none"
            )
        h = self.embed_patches(batch)
        context, target = h[:, : batch.context_count], h[:, batch.context_count :]
        u = self.attention_pooling(self.sequence(context, batch.context_position))
        v = u[:, None] + self.positions(batch.target_position)
        logits = self.logits(v, target)
        answer = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
        real = (batch.sample_id >= 0)[:, None].expand(answer.shape)
        count = real.sum()
        losses = F.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none").view(answer.shape)
        loss = (losses * real).sum() / count.clamp(min=1)
        accuracy = ((logits.argmax(dim=2) == answer) & real).sum() / count.clamp(min=1)
        return SelfieOutput(loss, accuracy, count, logits, u)

    def embed_patches(self, batch: PatchBatch) -> Tensor:
        """Returns h [B, N, D]: all patches, context and target, through P in one call."""
        pixels = self.normalise(batch.patches)
        if self.config.model.masking == "zero":
            pixels = torch.cat((_blank_hidden(pixels, batch), pixels[:, batch.context_count :]), dim=1)
        # [B, N, p, p, 3] seen as [B·N, 3, p, p] is channels-last already: no copy
        h: Tensor = self.patch_network(pixels.flatten(0, 1).permute(0, 3, 1, 2))
        return h.view(*batch.position.shape, -1)

    def sequence(self, context: Tensor, position: Tensor) -> Tensor:
        """Returns A's input [B, 1 + n, D] from context h [B, n, D] and their cells [B, n]: u0 first."""
        if self.config.model.encoder_positions:
            context = context + self.positions(position)
        u0 = self.u0.to(context.dtype).expand(len(context), 1, -1)
        return torch.cat((u0, context), dim=1)

    def logits(self, query: Tensor, target: Tensor) -> Tensor:
        """Returns [B, T, T] float32 from queries v and target h, [B, T, D] each."""
        model = self.config.model
        if model.logits == "cosine":
            query, target = F.normalize(query, dim=2), F.normalize(target, dim=2)
        products = (query @ target.transpose(1, 2)).float() / model.temperature
        return products / model.embedding**0.5 if model.logits == "scaled" else products


def _blank_hidden(pixels: Tensor, batch: PatchBatch) -> Tensor:
    """Returns the encoder's patches [B, G, p, p, 3] with the hidden ones zero, after normalisation."""
    hidden = batch.mask.gather(1, batch.context_position)
    return pixels[:, : batch.context_count] * ~hidden[:, :, None, None, None]
