"""What the device makes fast: number formats, memory layout and compilation, chosen by `RuntimeConfig`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from selfie_model.config import RuntimeConfig


def autocast(device: torch.device, runtime: RuntimeConfig) -> torch.autocast:
    """Returns the context for forward passes: bf16 where wanted and, with `auto`, where a GPU has it."""
    on = runtime.precision == "bfloat16"
    if runtime.precision == "auto" and device.type == "cuda":
        on = torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)


def place(model: nn.Module, device: torch.device, runtime: RuntimeConfig) -> None:
    """Moves `model` to the device, convolutions in channels-last; lets cuDNN try its kernels, shapes being fixed."""
    layout = torch.channels_last if runtime.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack the argument
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def compiled(model: nn.Module, device: torch.device, runtime: RuntimeConfig) -> Callable[..., Any]:
    """Returns what to call in training: `model`, or its compiled form with the same parameters."""
    mode = runtime.compile
    if mode == "auto":
        mode = "default" if device.type == "cuda" else "off"
    return model if mode == "off" else torch.compile(model, mode=mode)
