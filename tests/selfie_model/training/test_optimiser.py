"""Optimiser and schedule."""

import math
from itertools import pairwise

import pytest
import torch

from selfie_model.config import TrainConfig
from selfie_model.network.selfie import Selfie
from selfie_model.training.optimiser import learning_rate, make_optimiser, set_learning_rate
from tests.selfie_model.memory import small_config

TRAIN = TrainConfig(steps=1100, learning_rate=0.4, warmup_steps=100)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.004), (49, 0.2), (99, 0.4), (100, 0.4), (600, 0.2), (1100, 0.0)],
    ids=["first", "mid warm-up", "last of warm-up", "peak", "half way", "end"],
)
def test_rate_rises_in_a_line_and_falls_in_a_cosine(step: int, rate: float) -> None:
    assert learning_rate(step, TRAIN) == pytest.approx(rate, abs=1e-12)


def test_rate_never_jumps() -> None:
    rates = [learning_rate(step, TRAIN) for step in range(1100)]
    steepest = 0.4 * math.pi / 2 / 1000
    assert all(later - earlier <= 0.0041 for earlier, later in pairwise(rates))
    assert all(earlier - later <= steepest * 1.01 for earlier, later in pairwise(rates))


def test_without_warm_up_the_peak_comes_first() -> None:
    assert learning_rate(0, TrainConfig(steps=10, learning_rate=0.3, warmup_steps=0)) == 0.3


def test_weight_decay_spares_biases_norms_positions_and_u0() -> None:
    model = Selfie(small_config(positions="row_column"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = make_optimiser(model, TRAIN).param_groups
    assert decayed["weight_decay"] == 1e-4
    assert spared["weight_decay"] == 0
    kinds = {names[id(parameter)].split(".")[-1] for parameter in decayed["params"]}
    assert kinds == {"weight"}
    assert not any("norm" in names[id(parameter)] for parameter in decayed["params"])
    others = {names[id(parameter)] for parameter in spared["params"]}
    assert {"u0", "positions.row", "positions.column", "patch_network.norm.weight"} <= others
    assert all("norm" in name or name.endswith("bias") for name in others - {"u0", "positions.row", "positions.column"})
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_weight_decay_all_spares_nothing() -> None:
    model = Selfie(small_config())
    groups = make_optimiser(model, TrainConfig(decay="all")).param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4]
    assert len(groups[0]["params"]) == len(list(model.parameters()))


def test_updates_are_nesterov_sgd_with_l2() -> None:
    """Three steps on one weight, written out."""
    layer = torch.nn.Linear(1, 1, bias=False)
    weight = velocity = 0.0
    with torch.no_grad():
        layer.weight.fill_(2.0)
    optimiser = make_optimiser(layer, TrainConfig(weight_decay=0.1, learning_rate=0.05))
    weight = 2.0
    for _ in range(3):
        optimiser.zero_grad()
        (layer.weight.sum() ** 2).backward()
        gradient = 2 * weight + 0.1 * weight
        velocity = 0.9 * velocity + gradient
        weight -= 0.05 * (gradient + 0.9 * velocity)
        optimiser.step()
        assert layer.weight.item() == pytest.approx(weight, rel=1e-6)


def test_rate_is_set_in_every_group() -> None:
    optimiser = make_optimiser(Selfie(small_config()), TRAIN)
    set_learning_rate(optimiser, 0.123)
    assert [group["lr"] for group in optimiser.param_groups] == [0.123, 0.123]


def test_what_was_transferred_learns_at_its_own_share_of_the_rate() -> None:
    model = Selfie(small_config())
    transferred = [name for name, _ in model.named_parameters() if name.startswith("patch_network.stem")]
    optimiser = make_optimiser(model, TrainConfig(transferred_rate=0.25), transferred=transferred)
    set_learning_rate(optimiser, 0.4)
    rates = {id(parameter): group["lr"] for group in optimiser.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == (0.1 if name in transferred else 0.4), name
