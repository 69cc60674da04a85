"""The folder of a run: what it was asked to do, where it stands, how it ended.

RUN/config.json     the resolved configuration
RUN/checkpoints/    see `checkpoint`
RUN/journal.jsonl   see `journal`
RUN/result.json     how the last process ended: step, finished, metrics
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfie_data.errors import RunError
from selfie_data.files import damaged, make_output_folder, number, read_json, write_output_json
from selfie_model.config import Config, differences
from selfie_model.training.checkpoint import Checkpoints, State, config_of, read_checkpoint
from selfie_model.training.distributed import Ranks
from selfie_model.training.evaluate import Metrics

CONFIG = "config.json"
RESULT = "result.json"
_DATASET = "manifest.json"  # what a folder of shards has; training knows no more of one
Resume = Literal["no", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a training ended.

    Attributes:
        step: optimiser steps done.
        finished: all of them.
        stopped_by: what ended it early, else empty.
        loss, accuracy: of the last window of training steps.
        validation: metrics of the last pass over the validation split, None without one.
        best: accuracy and step of the best pass, None without one.
        images_per_s: over the whole of this process's training, data included.
    """

    step: int
    finished: bool
    stopped_by: str
    loss: float
    accuracy: float
    validation: Metrics | None
    best: tuple[float, int] | None
    images_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "step": self.step,
            "finished": self.finished,
            "stopped_by": self.stopped_by,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "validation": self.validation._asdict() if self.validation is not None else None,
            "best": {"accuracy": self.best[0], "step": self.best[1]} if self.best is not None else None,
            "images_per_s": self.images_per_s,
        }


def open_run(run: Path, *, kind: str, config: Config, resume: Resume, ranks: Ranks) -> State | None:
    """Makes a run's folder, or finds what to go on from.

    Args:
        run: the folder.
        kind: `pretrain` or `finetune`.
        config: the resolved configuration; it is written to the folder.
        resume: `auto` goes on from the newest checkpoint, if there is one; `no` wants a folder without one.
        ranks: this process; rank 0 writes.

    Returns:
        The checkpoint's content, None for a fresh start.

    Raises:
        RunError: there is a run already, or the one to go on with was asked to do something else.
    """
    if (run / _DATASET).exists():
        raise RunError(f"{run} holds a dataset: a run needs a folder of its own, give another --out")
    checkpoints = Checkpoints(run)
    newest, state = checkpoints.newest(), None
    # a run that was killed early may have its best checkpoint only: a run without validation would then be taken for it
    if resume == "no" and (newest is not None or checkpoints.best() is not None):
        raise RunError(f"{run} holds a run already; go on with --resume auto, or give another --out")
    if newest is not None:
        state = read_checkpoint(newest)
        _check_same(run, state, kind, config, config_of(state, newest))
    if ranks.writes:
        make_output_folder(run)
        write_output_json(run / CONFIG, config.to_dict())
    return state


def read_result(run: Path) -> Result | None:
    """Returns how a run ended, None if it never did.

    Raises:
        RunError: the file is damaged.
    """
    path = run / RESULT
    remedy = "delete it: the checkpoints hold the run, and --resume auto writes it anew, but for the training accuracy"
    plain = read_json(path, remedy=remedy)
    if plain is None:
        return None
    with damaged(path, remedy=remedy):
        best, validation = plain.pop("best"), plain.pop("validation")
        for name in ("step", "loss", "accuracy", "images_per_s"):
            number(plain, name)
        return Result(
            **plain,
            best=(number(best, "accuracy"), int(number(best, "step"))) if best else None,
            validation=Metrics(**validation) if validation else None,
        )


def _check_same(run: Path, state: State, kind: str, config: Config, saved: Config) -> None:
    if state["kind"] != kind:
        raise RunError(f"{run} holds a run of {state['kind']}, not of {kind}; give another --out")
    changed = differences(saved, config)
    if changed:
        raise RunError(f"{run} was started with another configuration ({'; '.join(changed)}); give another --out")
