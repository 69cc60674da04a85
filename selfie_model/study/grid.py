"""The grid of a study: which runs there are, what each waits for, and how many machines share them.

    pretrain ──────────────┐
    tune/ARM-FRACTION/RATE ─┴→ (best rate on validation) → final/ARM-FRACTION/seed

    scratch   supervised from scratch, as long as finetuning
    long      supervised from scratch, as many images as pretraining and finetuning together (not in the paper)
    selfie    pretrained, then finetuned

Each cell is a folder. A cell is finished when its `done.json` stands there, which is written last and atomically. A
machine works on a cell while it holds the kernel's lock on the cell's `lock` file: the lock vanishes with the process,
however that ends, so no claim is ever stale. On a shared file system (NFS 4, Lustre with `flock`, CephFS) the same
folder serves any number of machines; where locks do not reach across machines, give each its own seeds or fractions
and copy the cells' folders together afterwards.
"""

import fcntl
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from selfie_data.files import damaged, make_output_folder, number, read_json, write_output_json
from selfie_model.config import Config

Arm = Literal["scratch", "long", "selfie"]
ARMS: Final[tuple[Arm, ...]] = ("scratch", "long", "selfie")
Stage = Literal["pretrain", "tune", "final"]
DONE = "done.json"
RUN_AGAIN = "delete it to run the cell again"
TUNING_SEED = 0  # the same whatever seeds a machine runs, so that all agree on the tuned rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the study.

    Attributes:
        stage: `pretrain`, `tune` (measured on the validation split) or `final` (on the test set).
        seed: of the initialisation, the order, the draws, and of the labelled subset.
        arm: None for pretraining.
        percent: labelled share, 0 < percent <= 100; None for pretraining.
        rate: peak learning rate; None for pretraining (the preset's) and final (the tuned one).
    """

    stage: Stage
    seed: int
    arm: Arm | None = None
    percent: float | None = None
    rate: float | None = None

    @property
    def name(self) -> str:
        """Folder of the cell inside the study, e.g. `final/selfie-5/seed-0`."""
        if self.stage == "pretrain":
            return f"pretrain/seed-{self.seed}"
        group = f"{self.arm}-{self.percent:g}"
        last = f"seed-{self.seed}" if self.stage == "final" else f"rate-{self.rate:g}"
        return f"{self.stage}/{group}/{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyGrid:
    """The cells of a study.

    Attributes:
        percents: labelled shares in per cent, rising.
        seeds: of the final cells.
        rates: peak learning rates to try on validation; a single one is used as it is, without tuning.
        arms: which arms to run.
        pretrain_seeds: one pretraining a seed of this tuple; seed s is finetuned from number s mod their count.
    """

    percents: tuple[float, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    arms: tuple[Arm, ...] = ("scratch", "selfie")
    pretrain_seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name, values in (("percents", self.percents), ("seeds", self.seeds), ("rates", self.rates)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be given and all different, got {values}")
        if any(not 0 < percent <= 100 for percent in self.percents):
            raise ValueError(f"labelled shares must be in (0, 100] per cent, got {self.percents}")
        if any(not 0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"learning rates must be positive and finite, got {self.rates}")

    def pretraining_of(self, seed: int) -> Cell:
        """The pretraining that finetuning with `seed` starts from."""
        return Cell(stage="pretrain", seed=self.pretrain_seeds[seed % len(self.pretrain_seeds)])

    def tuning(self, arm: Arm, percent: float) -> list[Cell]:
        """The tuning cells of one column of one arm; none if there is only one rate."""
        if len(self.rates) == 1:
            return []
        return [Cell(stage="tune", seed=TUNING_SEED, arm=arm, percent=percent, rate=rate) for rate in self.rates]

    def cells(self) -> list[Cell]:
        """Every cell, each after those it waits for; seeds outermost, so that a whole table fills up early."""
        columns = [(arm, percent) for percent in self.percents for arm in self.arms]
        tune = [cell for arm, percent in columns for cell in self.tuning(arm, percent)]
        final = [
            Cell(stage="final", seed=seed, arm=arm, percent=percent) for seed in self.seeds for arm, percent in columns
        ]
        needed = (one for cell in [*tune, *final] for one in (*self.waits_for(cell), cell))
        return list(dict.fromkeys(needed))

    def waits_for(self, cell: Cell) -> list[Cell]:
        """The cells that must be finished before `cell` can start."""
        if cell.stage == "pretrain" or cell.arm is None or cell.percent is None:
            return []
        before = [self.pretraining_of(cell.seed)] if cell.arm == "selfie" else []
        return before + (self.tuning(cell.arm, cell.percent) if cell.stage == "final" else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study to run.

    Attributes:
        out: its folder, shared by all machines that work on it.
        config: the preset with all overrides, budget not yet applied.
        grid: its cells.
        budget: factor on the steps of both trainings.
        notes: sentences to print under the table (which test set, …).
    """

    out: Path
    config: Config
    grid: StudyGrid
    budget: float = 1.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        apply_budget(self.config, self.budget)  # refuses what is no factor

    def folder(self, cell: Cell) -> Path:
        return self.out / cell.name


def steps_of(arm: Arm, config: Config) -> int:
    """Returns the steps of an arm's supervised training; `long` also gets pretraining's images, in its own batches."""
    finetune, pretrain = config.finetune, config.pretrain
    if arm != "long":
        return finetune.steps
    return finetune.steps + -(-pretrain.steps * pretrain.batch_size // finetune.batch_size)


def apply_budget(config: Config, budget: float) -> Config:
    """Scales the steps of both trainings by `budget`; the warm-up is kept, but to a tenth of the steps at most.

    Raises:
        ValueError: budget is not positive and finite.
    """
    if not 0 < budget < math.inf:
        raise ValueError(f"the budget is a positive factor on the steps, got {budget}")
    sections = {}
    for name, train in (("pretrain", config.pretrain), ("finetune", config.finetune)):
        steps = max(1, round(train.steps * budget))
        sections[name] = {"steps": steps, "warmup_steps": min(train.warmup_steps, max(1, steps // 10))}
    return config.override(**sections)


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Yields whether this process now holds `folder`, until the block ends; never waits.

    False means that another process works on it. Check afterwards whether the cell is finished: it may have been
    finished between the look and the claim.
    """
    make_output_folder(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def read_done(folder: Path) -> dict[str, Any] | None:
    """Returns what a finished cell recorded; None if it is not finished.

    Raises:
        RunError: the record is not what this module writes.
    """
    path = folder / DONE
    record = read_json(path, remedy=RUN_AGAIN)
    if record is not None:
        with damaged(path, remedy=RUN_AGAIN):
            number(record, "accuracy")
    return record


def write_done(folder: Path, record: dict[str, Any]) -> None:
    """Marks a cell as finished: atomically, after everything else of it."""
    write_output_json(folder / DONE, record, sort_keys=True)


def best_rate(rates: Sequence[float], accuracies: Sequence[float]) -> float:
    """Returns the rate of the highest validation accuracy, of equal ones the smallest."""
    if not rates or len(rates) != len(accuracies):
        raise ValueError(f"every rate needs one accuracy, got {len(rates)} rates and {len(accuracies)} accuracies")
    return min(zip(rates, accuracies, strict=True), key=lambda pair: (-pair[1], pair[0]))[0]
