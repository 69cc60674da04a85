"""The optimiser and the course of its learning rate.

SGD with Nesterov momentum 0.9, L2 weight decay 1e-4, cosine decay after 100 warm-up steps (the paper, section
"Implementation"). Which parameters decay is ours: not biases, norms, positions and u0, unless `decay` is `all`.
"""

import math
from collections.abc import Collection
from typing import Final

import torch
from torch import nn

from selfie_model.config import TrainConfig

FACTOR: Final = "rate_factor"  # of a parameter group, on the learning rate


def learning_rate(step: int, train: TrainConfig) -> float:
    """Returns the rate of step 0 … steps-1: a line up to the peak during warm-up, then half a cosine towards 0."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tells whether weight decay acts on a parameter by default: weights of convolutions and linear layers only."""
    return parameter.ndim >= 2 and not name.startswith("positions.")


def make_optimiser(model: nn.Module, train: TrainConfig, *, transferred: Collection[str] = ()) -> torch.optim.SGD:
    """Returns the optimiser of all parameters, those that decay in groups of their own; one fused kernel on a GPU.

    Args:
        model: its parameters, on their device.
        train: rates, momentum, decay.
        transferred: names of the parameters that came from a pretraining run: `train.transferred_rate` acts on these.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in model.named_parameters():
        acts = train.decay == "all" or is_decayed(name, parameter)
        factor = train.transferred_rate if name in transferred else 1.0
        groups.setdefault((acts, factor), []).append(parameter)
    on_gpu = next(model.parameters()).is_cuda
    return torch.optim.SGD(
        [
            {"params": parameters, "weight_decay": train.weight_decay if acts else 0.0, FACTOR: factor}
            for (acts, factor), parameters in groups.items()
            if parameters
        ],
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=True,
        fused=on_gpu or None,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every group, times the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)  # checkpoints of before there were factors restore groups without
