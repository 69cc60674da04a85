"""All that a training is at one step, as a checkpoint's content, and back: what makes a resumed run the same run."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.batch import BatchT
from selfie_data.errors import RunError
from selfie_model.training.checkpoint import FORMAT, State
from selfie_model.training.evaluate import Metrics
from selfie_model.training.optimiser import learning_rate
from selfie_model.training.task import Training


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """How far a training has come; the loop changes it.

    Attributes:
        step: optimiser steps done.
        first_loss: of the first window of steps, NaN before its end.
        validation: metrics of the last pass over the validation split, None before the first.
        best: accuracy and step of the best pass, None before the first.
        began: step and epoch from which the loader's epochs are counted: where its dataset became another.
    """

    step: int = 0
    first_loss: float = math.nan
    validation: Metrics | None = None
    best: tuple[float, int] | None = None
    began: tuple[int, int] = (0, 0)

    def place(self, steps: int, length: int) -> tuple[int, int]:
        """Returns the epoch, and the steps done in it, after so many steps; `length`: of an epoch."""
        step, epoch = self.began
        more, inside = divmod(steps - step, length)
        return epoch + more, inside


def take_snapshot(
    training: Training[BatchT], optimiser: torch.optim.Optimizer, reached: TrainingState, device: torch.device
) -> State:
    """Returns what `restore_snapshot` and the readers of a run need; see `checkpoint` for its entries."""
    return {
        "format": FORMAT,
        "kind": training.kind,
        "config": training.config.to_dict(),
        "class_names": list(training.class_names),
        "data": training.data,
        "step": reached.step,
        "model": training.model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": {
            "learning_rate": learning_rate(reached.step, training.train),
            "first_loss": reached.first_loss,
        },
        "rng": _rng_state(device),
        "loader": training.loader.state_dict(),
        "began": list(reached.began),
        "best": list(reached.best) if reached.best is not None else [],
        "validation": list(reached.validation) if reached.validation is not None else [],
    }


def restore_snapshot(
    state: State, training: Training[BatchT], optimiser: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Puts model, optimiser, loader and random generators where they were; returns how far the training had come.

    Raises:
        RunError: the loader is not that of the run: other data, another split, seed or augmentation.
    """
    try:  # first: other data may have other classes, and weights of another shape
        training.loader.load_state_dict(state["loader"])
    except ValueError as error:
        why = str(error).partition(";")[0]  # without what one does who has written the loop
        raise RunError(
            f"{training.run} cannot go on with this data: {why}; give the shards and options of its beginning, or "
            f"another --out"
        ) from error
    training.model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["rng"]["cpu"])
    if device.type == "cuda" and "cuda" in state["rng"]:
        torch.cuda.set_rng_state(state["rng"]["cuda"], device)
    best, validation = state["best"], state["validation"]
    began = state.get("began", [0, 0])  # earlier versions wrote none
    if moved(state, now := training.loader.state_dict()):
        began = [state["step"], now["epoch"]]
    return TrainingState(
        step=state["step"],
        began=(int(began[0]), int(began[1])),
        first_loss=state["schedule"]["first_loss"],
        validation=Metrics(*validation) if validation else None,
        best=(float(best[0]), int(best[1])) if best else None,
    )


def moved(state: State, loader: State) -> bool:
    """Says whether a loader that took the state of a checkpoint goes on with another dataset: what that has become."""
    was: str = state["loader"].get("fingerprint", "")
    return bool(was) and was != loader.get("fingerprint")


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
