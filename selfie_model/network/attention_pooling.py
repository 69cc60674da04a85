"""A, attention pooling: Transformer blocks over (u0, h_1 … h_n); the output in the place of u0 is the image so far.

    u0 ┐   ┌ block ┐ ┌ block ┐ ┌ block ┐   → u
    h1 ├ → │       │ │       │ │       │   dropped
    h2 ┘   └───────┘ └───────┘ └───────┘   dropped

    block:  x = norm(x + dropout(attention(x)))          both residuals from the sub-layer's input, norm last
            x = norm(x + dropout(linear(GELU(linear(x)))))

Source: the paper, section "Attention Pooling"; the block is that of arXiv 1706.03762 (post-norm).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfie_model.config import Config
from selfie_model.network.resnet import initialise


class AttentionPooling(nn.Module):
    """A. `u0` itself belongs to `Selfie`, which puts it first. Mean and maximum in its place are for ablations."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pooling = config.model.pooling
        blocks = config.model.attention_blocks if self.pooling == "attention" else 0
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(blocks))
        initialise(self)

    def forward(self, sequence: Tensor) -> Tensor:
        """Maps [B, 1 + n, embedding], u0 first, to u [B, embedding]."""
        if self.pooling == "mean":
            return sequence.mean(dim=1)
        if self.pooling == "max":
            return sequence.amax(dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        return sequence[:, 0]

    def attention(self, sequence: Tensor) -> Tensor:
        """Returns the attention weights [blocks, B, heads, 1 + n, 1 + n]; row 0 is what u0 looks at. For pictures."""
        weights = []
        for block in self.blocks:
            assert isinstance(block, AttentionBlock)
            weights.append(block.attention_weights(sequence))
            sequence = block(sequence)
        return torch.stack(weights)


class AttentionBlock(nn.Module):
    """Self-attention and two linear layers, each with dropout, residual and layer norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.model.embedding, config.model.attention_hidden
        self.heads = config.model.attention_heads
        self.attention_dropout = config.model.dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.model.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, S, embedding] to [B, S, embedding]."""
        query, key, value = self._heads(x)
        probability = self.attention_dropout if self.training else 0.0
        mixed = _attend(query, key, value, probability)
        x = self.norm1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        y = self.linear2(F.gelu(self.linear1(x)))
        normed: Tensor = self.norm2(x + self.dropout(y))
        return normed

    def attention_weights(self, x: Tensor) -> Tensor:
        """Returns [B, heads, S, S], rows sum to one: what `forward` uses without ever holding it."""
        query, key, _ = self._heads(x)
        return torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns query, key and value, [B, heads, S, embedding / heads] each."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Returns what each query sees of the values, [B, heads, S, d] as they are; on a CPU always in float32."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    # forward and backward of 128 images, 4 heads, 13 x 32: 25 ms in bf16, 3 ms in float32 (torch 2.13, decision 022)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), dropout_p=dropout)
