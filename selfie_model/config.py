"""Everything that can be chosen, as frozen records: the architecture, the two trainings, and how they are run.

`model`, `pretrain` and `finetune` decide what is computed; `runtime` decides only how fast and how often it is saved.
Presets (`selfie_model.presets`) are complete configurations; `override` changes single values by name. A resolved
configuration goes to JSON and back without loss.

Source of the defaults: the paper (arXiv 1906.02940), and decision 020 for what it leaves open.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec

from pipelines.sampling.grid import Grid

Augmentation = Literal["none", "flip", "crop_flip", "padded_crop_flip"]
_SECTIONS = ("model", "pretrain", "finetune", "runtime")
_BOOLEANS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The architecture of P, A, the positions, the logits, and of the classifier that P starts.

    Attributes:
        image_size: height and width of an image, pixels.
        patch_size: height and width of a patch, pixels; divides image_size.
        context: patches the encoder sees of an image.
        target: patches to be put back; context + target <= cells of the grid.
        masking: `skip` leaves target patches out of the encoder's sequence, `zero` shows them hidden, as zeros.
        variant: `v2` pre-activation blocks (timm's resnetv2_50), `v1` post-activation (torchvision's resnet50).
        stem: `small` 3x3 stride 1; `large` 7x7 stride 2 and 3x3 max-pool stride 2.
        width: channels of the stem; stage s has width·4·2^s at its output. 64 is ResNet-50.
        blocks: residual blocks of the four stages of the classifier.
        patch_stages: how many of the stages make P; its embedding has width·4·2^(patch_stages - 1) channels.
        pooling: `attention` is A; `mean` and `max` over u0 and the context have no blocks (ablations).
        attention_blocks, attention_heads, attention_hidden: A's depth, heads, and width between its two linear layers.
        dropout: on the output of each sub-layer of A; also on its attention weights.
        positions: `table` one vector a cell, `row_column` the sum of one a row and one a column.
        encoder_positions: whether context patches carry their positions too (off: an ablation).
        logits: `scaled` dot products / √embedding, `raw` dot products, `cosine` both sides of length one.
        temperature: what the logits are divided by after that.
    """

    image_size: int = 32
    patch_size: int = 8
    context: int = 12
    target: int = 4
    masking: Literal["skip", "zero"] = "skip"
    variant: Literal["v2", "v1"] = "v2"
    stem: Literal["small", "large"] = "small"
    width: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    patch_stages: int = 3
    pooling: Literal["attention", "mean", "max"] = "attention"
    attention_blocks: int = 3
    attention_heads: int = 32
    attention_hidden: int = 640
    dropout: float = 0.1
    positions: Literal["table", "row_column"] = "table"
    encoder_positions: bool = True
    logits: Literal["scaled", "raw", "cosine"] = "scaled"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_least(1, self, "image_size", "width", "attention_heads", "attention_hidden")
        _check_least(0, self, "attention_blocks")
        _check(
            self.patch_size > 0 and self.image_size % self.patch_size == 0, "patch_size must divide image_size", self
        )
        _check(self.context >= 1 and self.target >= 2, "context must be at least 1 and target at least 2", self)
        _check(self.context + self.target <= self.cells, f"context + target must be at most {self.cells} cells", self)
        _check(1 <= self.patch_stages <= 4, "patch_stages must be 1..4", self)
        _check(min(self.blocks) >= 1, "blocks must be at least 1 each", self)
        _check(self.embedding % self.attention_heads == 0, f"attention_heads must divide {self.embedding}", self)
        _check(0 <= self.dropout < 1, "dropout must be in [0, 1)", self)
        _check(self.temperature > 0, "temperature must be positive", self)

    @property
    def _grid(self) -> Grid:
        return Grid(image_size=self.image_size, patch_size=self.patch_size)

    @property
    def side(self) -> int:
        """Cells along one edge of the grid."""
        return self._grid.side

    @property
    def cells(self) -> int:
        """Patches of an image."""
        return self._grid.cells

    @property
    def last_side(self) -> int:
        """Height and width of the classifier's last map: the image's, halved and rounded up by each stride."""
        halvings = len(self.blocks) - 1 + (2 if self.stem == "large" else 0)
        return -(-self.image_size >> halvings)

    def narrowest_input(self, side: int, stages: int) -> int:
        """Returns the side of the smallest map that a stage halves, of `side` pixels through `stages` stages."""
        halvings = (2 if self.stem == "large" else 0) + max(0, stages - 2)
        return -(-side >> halvings)

    @property
    def embedding(self) -> int:
        """Width of a patch's vector `h`, of A, of `u` and of the positions."""
        return self.width * 4 << self.patch_stages - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training: how long, how fast, on what.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step, over all ranks.
        learning_rate: peak, reached after `warmup_steps` of linear warm-up; a cosine takes it to 0 at `steps`.
        transferred_rate: factor on the rate of what finetuning took from a pretraining run; 1 = as all else.
        momentum: Nesterov's.
        weight_decay: L2 term, added to the gradient.
        decay: which parameters it acts on: `weights` spares biases, norms, positions and u0; `all` spares none.
        accumulate: parts that a rank's batch is cut into to save memory; gradients are summed.
        augmentation: what happens to an image before it is cut or seen whole.
        crop_area_min: smallest area of a random resized crop, as a share of the image; the largest is 1.
        batch_norm: `train` updates the statistics, `frozen` uses and keeps those that the run starts with.
        seed: of the initial weights, the order, the draws and the dropout.
    """

    steps: int = 120_000
    batch_size: int = 512
    learning_rate: float = 0.1
    transferred_rate: float = 1.0
    warmup_steps: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: Literal["weights", "all"] = "weights"
    accumulate: int = 1
    augmentation: Augmentation = "flip"
    crop_area_min: float = 0.2
    batch_norm: Literal["train", "frozen"] = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_least(1, self, "steps", "batch_size", "accumulate")
        _check_least(0, self, "warmup_steps", "weight_decay")
        _check(self.learning_rate > 0, "learning_rate must be positive", self)
        _check(self.transferred_rate > 0, "transferred_rate must be positive", self)
        _check(0 < self.momentum < 1, "momentum must be in (0, 1)", self)
        _check(0 < self.crop_area_min <= 1, "crop_area_min must be in (0, 1]", self)
        _check(0 <= self.seed < 2**63, "seed must be in [0, 2**63)", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """How a run is executed; none of this changes what is learned beyond rounding.

    Attributes:
        precision: `auto` is bf16 autocast on a GPU that has it, float32 elsewhere.
        compile: `torch.compile`; `auto` compiles on a GPU only (on two cores it costs minutes and gains little).
        channels_last: memory layout of the convolutions.
        log_every: steps between fetches of the metrics; between two of them the host never waits for the device.
        validate_every: steps between passes over the validation split; 0 = only at the end.
        validation_batches: batches of such a pass at most; 0 = all.
        checkpoint_every: steps between checkpoints; 0 = only at the end.
        keep_last: newest checkpoints that are kept, beside the best one.
        sync_batch_norm: batch-norm statistics over all ranks (GPU only); otherwise each rank uses its own.
        journal_batches: the journal also has a digest of every global batch; each step then waits for it.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune"] = "auto"
    channels_last: bool = True
    log_every: int = 50
    validate_every: int = 1000
    validation_batches: int = 0
    checkpoint_every: int = 1000
    keep_last: int = 2
    sync_batch_norm: bool = False
    journal_batches: bool = False

    def __post_init__(self) -> None:
        _check_least(1, self, "log_every", "keep_last")
        _check_least(0, self, "validate_every", "validation_batches", "checkpoint_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A complete configuration: what a preset returns, every module is built from, and a run saves."""

    preset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: TrainConfig = field(default_factory=TrainConfig)
    finetune: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if self.pretrain.augmentation == "padded_crop_flip":
            raise ValueError(
                "pretrain.augmentation must not be padded_crop_flip: padding tells where a border patch was, and even "
                "noise is then put back right; use flip or crop_flip"
            )

    def override(self, **sections: dict[str, Any]) -> Self:
        """Returns a copy with single values changed: `config.override(model={"width": 32}, pretrain={"steps": 10})`.

        Values may be of the field's type or the text of one, as from a command line.

        Raises:
            ValueError: unknown section or name, or a value that the field does not take.
        """
        changed: dict[str, Any] = {}
        for section, values in sections.items():
            if section not in _SECTIONS:
                raise ValueError(f"no section {section!r} in a configuration; there are {', '.join(_SECTIONS)}")
            record = getattr(self, section)
            changed[section] = dataclasses.replace(record, **_parse(section, record, values))
        return dataclasses.replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values, tuples as lists."""
        plain = dataclasses.asdict(self)
        plain["model"]["blocks"] = list(self.model.blocks)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; every value must be known, missing ones take their default."""
        sections = {name: value for name, value in plain.items() if name != "preset"}
        return cls(preset=str(plain.get("preset", "custom"))).override(**sections)


def differences(saved: Config, asked: Config) -> list[str]:
    """Returns `section.name: saved → asked` for each value that decides what is computed and differs."""
    found = []
    for section in ("model", "pretrain", "finetune"):
        left, right = getattr(saved, section), getattr(asked, section)
        for entry in dataclasses.fields(left):
            old, new = getattr(left, entry.name), getattr(right, entry.name)
            if old != new:
                found.append(f"{section}.{entry.name}: {old} → {new}")
    return found


def _parse(section: str, record: Any, values: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{section} is a section of values, got {values!r}")
    kinds = typing.get_type_hints(type(record))
    parsed = {}
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"no value {section}.{name} in a configuration; there are {', '.join(sorted(kinds))}")
        try:
            parsed[name] = _convert(value, kinds[name])
        except ValueError as error:
            raise ValueError(f"{section}.{name} takes {_describe(kinds[name])}, got {value!r}") from error
    return parsed


def _convert(value: Any, kind: Any) -> Any:
    """Returns `value` as the type `kind`; text is read as a command line's.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        if typing.get_origin(kind) is tuple:
            value = [part.strip() for part in value.strip("[]() ").split(",")]
        elif kind is bool:
            value = _BOOLEANS.get(value.lower(), value)
        elif kind in (int, float):
            value = value.replace("_", "").strip()
    # whole floats are whole numbers and digits are numbers, but 1 and "1" are not true
    converted = msgspec.convert(value, kind, strict=kind is bool)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(value)
    return converted


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"{len(typing.get_args(kind))} whole numbers"
    return {int: "a whole number", float: "a finite number", bool: "true or false"}[kind]


def _check_least(least: int, record: Any, *names: str) -> None:
    for name in names:
        _check(getattr(record, name) >= least, f"{name} must be at least {least}", record)


def _check(holds: bool, rule: str, record: Any) -> None:
    if not holds:
        words = rule.split()
        got = [f"{entry.name} = {getattr(record, entry.name)}" for entry in dataclasses.fields(record)]
        raise ValueError(f"{rule}, got {', '.join(text for text in got if text.split()[0] in words)}")
