"""The presets hold the paper's numbers."""

import pytest

from selfie_model import presets
from selfie_model.config import Config


@pytest.mark.parametrize(
    ("config", "batch", "cells", "context", "target", "positions"),
    [
        (presets.cifar10(), 512, 16, 12, 4, "table"),
        (presets.imagenet32(), 1024, 16, 12, 4, "table"),
        (presets.imagenet224(), 1024, 49, 37, 12, "row_column"),
    ],
    ids=["cifar10", "imagenet32", "imagenet224"],
)
def test_the_papers_numbers(config: Config, batch: int, cells: int, context: int, target: int, positions: str) -> None:
    model = config.model
    assert (model.cells, model.context, model.target, model.positions) == (cells, context, target, positions)
    assert (model.embedding, model.attention_blocks, model.attention_heads, model.attention_hidden) == (
        1024,
        3,
        32,
        640,
    )
    assert (model.blocks, model.variant, model.masking, model.dropout) == ((3, 4, 6, 3), "v2", "skip", 0.1)
    for train in (config.pretrain, config.finetune):
        assert (train.batch_size, train.steps, train.warmup_steps) == (batch, 120_000, 100)
        assert (train.momentum, train.weight_decay) == (0.9, 1e-4)
    assert (config.pretrain.learning_rate, config.finetune.learning_rate) == (0.4, 0.1)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_docstrings_give_command_hardware_time(name: str) -> None:
    text = presets.PRESETS[name].__doc__ or ""
    assert f"--preset {name}" in text
    for word in ("Hardware", "Time"):
        assert word in text


@pytest.mark.parametrize("name", presets.PRESETS)
def test_names_are_those_of_the_functions(name: str) -> None:
    assert presets.PRESETS[name]().preset == name


def test_no_preset_pads_in_pretraining() -> None:
    for preset in presets.PRESETS.values():
        assert preset().pretrain.augmentation in ("flip", "crop_flip")
