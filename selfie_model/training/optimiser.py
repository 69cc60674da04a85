"""The optimiser and the course of its learning rate.

SGD with Nesterov momentum 0.9, L2 weight decay 1e-4, cosine decay after 100 warm-up steps (the paper, section
"Implementation"). Which parameters decay is ours: not biases, norms, positions and u0, unless `decay` is `all`.
"""

import math

import torch
from torch import nn

from selfie_model.config import TrainConfig


def learning_rate(step: int, train: TrainConfig) -> float:
    """Returns the rate of step 0 … steps-1: a line up to the peak during warm-up, then half a cosine towards 0."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tells whether weight decay acts on a parameter by default: weights of convolutions and linear layers only."""
    return parameter.ndim >= 2 and not name.startswith("positions.")


def make_optimiser(model: nn.Module, train: TrainConfig) -> torch.optim.SGD:
    """Returns the optimiser of all parameters, those that decay in a group of their own; one fused kernel on a GPU."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        acts = train.decay == "all" or is_decayed(name, parameter)
        (decayed if acts else spared).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    on_gpu = next(model.parameters()).is_cuda
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=True,
        fused=on_gpu or None,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate
