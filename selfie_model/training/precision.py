"""What the device makes fast: number formats, memory layout and compilation, chosen by `RuntimeConfig`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from selfie_data.errors import RunError
from selfie_model.config import Config, RuntimeConfig


def autocast(device: torch.device, runtime: RuntimeConfig) -> torch.autocast:
    """Returns the context for forward passes: bf16 where wanted and, with `auto`, where a GPU has it."""
    on = runtime.precision == "bfloat16"
    if runtime.precision == "auto" and device.type == "cuda":
        on = torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)


def check_precision(config: Config, device: torch.device, *, side: int, stages: int) -> None:
    """Refuses bf16 on a CPU where a 3x3 convolution of stride 2 gets maps of one pixel.

    PyTorch 2.13 leaves the gradient of the weights that see padding alone undefined there: whatever memory holds, often
    infinite (2,048 x 32 x 1 x 1, float32 and stride 1 are right).

    Args:
        config: of the run.
        device: that it runs on.
        side: of what the network gets, pixels.
        stages: that it has.

    Raises:
        RunError: gradients would be wrong.
    """
    bfloat16 = device.type == "cpu" and config.runtime.precision == "bfloat16"
    if bfloat16 and config.model.narrowest_input(side, stages) == 1:
        raise RunError(
            f"precision bfloat16 on a CPU takes no maps of one pixel, which {side} px and the {config.model.stem} stem "
            "give the last stage: PyTorch's gradients are wrong there; --set runtime.precision=float32"
        )


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
