"""uint8 pixels to the floats that a network takes, on the device that computes.

A byte a value crosses the bus instead of four; the arithmetic is that of the loaders' float output: x·scale + bias in
float32. Scale and bias are buffers, so that a checkpoint knows what its weights expect.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """x·scale + bias a channel.

    Attributes:
        scale, bias: float32 [3]; until `set` is called they map 0..255 to -1..1.
    """

    scale: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((3,), 1 / 127.5))
        self.register_buffer("bias", torch.full((3,), -1.0))

    def set(self, scale: Sequence[float] | Tensor, bias: Sequence[float] | Tensor) -> None:
        """Takes a dataset's values, [3] each."""
        self.scale.copy_(torch.as_tensor(scale, dtype=torch.float32))
        self.bias.copy_(torch.as_tensor(bias, dtype=torch.float32))

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps [..., 3] uint8 to normalised float32, under autocast to its dtype: what the first layer would cast to,
        so that one compiled pass reads a byte and writes two. Floats are normalised already: 16-bit ones become float32
        without autocast."""
        device = pixels.device.type
        casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if pixels.dtype != torch.uint8:
            return pixels if casts else pixels.float()
        # two roundings, as the loaders' float output has: a fused multiply-add would differ in the last bit
        values = pixels.to(torch.float32).mul_(self.scale).add_(self.bias)
        return values.to(torch.get_autocast_dtype(device)) if casts else values
