"""A training described: which model learns from what, under which section of the configuration. `train` executes it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from torch import nn

from pipelines.batch import BatchLoader, BatchT
from selfie_model.config import Config, TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Generic[BatchT]):
    """All that one training needs.

    Attributes:
        kind: `pretrain` or `finetune`.
        config: the resolved configuration.
        train: its section for this training.
        model: `Selfie` or `Classifier`, with its initial weights.
        loader: this rank's training batches.
        validation: batches of the validation split in evaluation order, None if there is no such split.
        chance: accuracy of guessing.
        run: folder of the run.
        class_names: of the labels; () in pretraining.
        transferred: names of the parameters that came from a pretraining run.
        data: what the run learned from, for the record: plain JSON values.
    """

    kind: str
    config: Config
    train: TrainConfig
    model: nn.Module
    loader: BatchLoader[BatchT]
    validation: BatchLoader[BatchT] | None
    chance: float
    run: Path
    class_names: tuple[str, ...] = ()
    transferred: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
