"""Configurations: checks, overriding by name, JSON."""

import dataclasses
import json
from typing import Any

import pytest

from selfie_model import presets
from selfie_model.config import Config, ModelConfig, TrainConfig, differences


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 7}, "patch_size must divide"),
        ({"context": 13}, "context \\+ target must be at most 16"),
        ({"target": 1}, "target at least 2, got context = 12, target = 1"),
        ({"attention_heads": 3}, "attention_heads must divide 1024"),
        ({"dropout": 1.0}, "dropout"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_impossible_models_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["steps", "batch_size", "accumulate", "learning_rate"])
def test_trainings_need_positive_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TrainConfig(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "name", "text", "value"),
    [
        ("model", "width", "32", 32),
        ("model", "blocks", "1,2,3,4", (1, 2, 3, 4)),
        ("model", "blocks", [1, 2, 3, 4], (1, 2, 3, 4)),
        ("model", "encoder_positions", "off", False),
        ("model", "encoder_positions", "true", True),
        ("model", "masking", "zero", "zero"),
        ("pretrain", "learning_rate", "0.25", 0.25),
        ("pretrain", "steps", "120_000", 120_000),
        ("finetune", "decay", "all", "all"),
        ("runtime", "precision", "bfloat16", "bfloat16"),
    ],
)
def test_values_are_read_from_text(section: str, name: str, text: object, value: object) -> None:
    config = presets.cifar10().override(**{section: {name: text}})
    assert getattr(getattr(config, section), name) == value


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"widht": 3}, "no value model.widht .* there are .*width"),
        ("modle", {"width": 3}, "no section 'modle'"),
        ("model", {"width": "wide"}, "model.width takes a whole number, got 'wide'"),
        ("model", {"width": 1.5}, "model.width takes a whole number"),
        ("model", {"masking": "blur"}, "model.masking takes one of skip, zero, got 'blur'"),
        ("model", {"blocks": "1,2"}, "model.blocks takes 4 whole numbers"),
        ("model", {"encoder_positions": "maybe"}, "true or false"),
        ("model", {"width": 0}, "width must be at least 1, got width = 0$"),
        ("model", {"attention_heads": 0}, "attention_heads must be at least 1, got attention_heads = 0$"),
        ("model", {"image_size": -32}, "image_size must be at least 1, got image_size = -32$"),
        ("model", {"context": 20}, r"context \+ target must be at most 16 cells, got context = 20, target = 4$"),
        ("model", 3, "model is a section of values, got 3"),
        ("pretrain", {"steps": float("inf")}, "pretrain.steps takes a whole number, got inf"),
        ("pretrain", {"learning_rate": "inf"}, "pretrain.learning_rate takes a finite number, got 'inf'"),
        ("pretrain", {"learning_rate": "fast"}, "pretrain.learning_rate takes a finite number"),
    ],
)
def test_wrong_values_name_themselves(section: str, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        presets.cifar10().override(**{section: values})


@pytest.mark.parametrize("preset", presets.PRESETS.values(), ids=presets.PRESETS)
def test_json_round_trip_is_exact(preset: object) -> None:
    config = preset()  # type: ignore[operator]
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_differences_name_what_is_computed_and_not_how_fast() -> None:
    config = presets.tiny()
    other = config.override(pretrain={"steps": 7}, runtime={"log_every": 3})
    assert differences(config, other) == [f"pretrain.steps: {config.pretrain.steps} → 7"]


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.tiny().model.width = 3  # type: ignore[misc]
