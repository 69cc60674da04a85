"""A run's state on disk: written atomically, read without executing anything.

    RUN/checkpoints/step-000001000.pt   the newest `keep_last`
    RUN/checkpoints/best.pt             the best on the validation split, when there is one

A file holds a dict of tensors, numbers, texts, lists and dicts only, so `torch.load(weights_only=True)` reads it:

    format, kind ("pretrain" | "finetune"), config, class_names, data, step,
    model, optimiser, schedule, rng, loader, began, best
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch

from selfie_data.errors import RunError
from selfie_data.files import damaged, open_atomic
from selfie_model.config import Config

FORMAT = 1
_FOLDER = "checkpoints"
_BEST = "best.pt"
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, NotImplementedError, pickle.UnpicklingError)
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run: Path, *, keep_last: int = 2) -> None:
        self._folder = run / _FOLDER
        self._keep_last = keep_last

    def save(self, state: State) -> Path:
        """Writes the newest checkpoint and removes those that are older than the `keep_last` newest."""
        path = self._folder / f"step-{state['step']:09d}.pt"
        write_atomically(state, path)
        for old in self._steps()[: -self._keep_last]:
            old.unlink()
        return path

    def save_best(self, state: State) -> Path:
        """Writes the best checkpoint over the one before."""
        path = self._folder / _BEST
        write_atomically(state, path)
        return path

    def newest(self) -> Path | None:
        """Returns the checkpoint of the highest step, None if there is none."""
        steps = self._steps()
        return steps[-1] if steps else None

    def best(self) -> Path | None:
        """Returns the best checkpoint, None if there is none."""
        path = self._folder / _BEST
        return path if path.exists() else None

    def _steps(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def write_atomically(state: State, path: Path) -> None:
    """Writes `state` so that `path` holds all of it or what was there before, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        torch.save(state, file)


def read_checkpoint(path: Path) -> State:
    """Returns a checkpoint's content, tensors on the CPU.

    Raises:
        RunError: not a checkpoint of this program, damaged, or of a newer format.
    """
    # never tell somebody to delete a file of theirs that they named by mistake
    remedy = "delete it to use an older one" if path.parent.name == _FOLDER else "give the folder of a run"
    if path.is_file() and not zipfile.is_zipfile(path):
        raise RunError(f"{path} cannot be read as a checkpoint (truncated or not one); {remedy}")
    try:
        if path.is_file() and (broken := _first_damaged(path)) is not None:  # which `torch.load` does not look for
            raise RunError(f"{path} cannot be read as a checkpoint (damaged in {broken}); {remedy}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path} cannot be read as a checkpoint ({reason}); {remedy}") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise RunError(f"{path} is not a checkpoint of selfie-model")
    if state["format"] > FORMAT:
        raise RunError(f"{path} has format {state['format']}, this version reads up to {FORMAT}; use a newer version")
    if not isinstance(state.get("kind"), str):
        raise RunError(f"{path} is not a checkpoint of selfie-model")
    return state


def _first_damaged(path: Path) -> str | None:
    """Returns the first part of a file of `torch.save` whose checksum is wrong, None if all are right."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def config_of(state: State, path: Path) -> Config:
    """Returns the configuration in the checkpoint that was read from `path`.

    Raises:
        RunError: there is none, or it has values that this version does not know.
    """
    with damaged(path, remedy="use the version that wrote it"):
        return Config.from_dict(state["config"])


def find_checkpoint(run: Path, *, which: Literal["best", "last", "auto"] = "auto") -> Path:
    """Returns the file to use of a run's folder (or of a checkpoint's own path); `auto` is best, else last.

    Raises:
        RunError: there is none.
    """
    if run.is_file():
        return run
    checkpoints = Checkpoints(run)
    best, newest = checkpoints.best(), checkpoints.newest()
    found = {"best": best, "last": newest, "auto": best or newest}[which]
    if found is None:
        raise RunError(f"{run} holds no {'' if which == 'auto' else which + ' '}checkpoint; give the folder of a run")
    return found


def newest_place(run: Path) -> dict[str, Any] | None:
    """Returns the state of the loader in a run's newest checkpoint, None if there is no checkpoint.

    Raises:
        RunError: it is damaged.
    """
    path = Checkpoints(run).newest()
    if path is None:
        return None
    place: dict[str, Any] = read_checkpoint(path)["loader"]
    return place


def steps_done(run: Path) -> tuple[int, int]:
    """Returns the steps that a run has done, by its newest checkpoint, and those that it was to do.

    Raises:
        RunError: there is no checkpoint, or a damaged one.
    """
    path = find_checkpoint(run)
    if path.parent.name == _FOLDER:  # the best checkpoint may be an early one of a run that went on
        path = Checkpoints(path.parent.parent).newest() or path
    state = read_checkpoint(path)
    steps: int = getattr(config_of(state, path), state["kind"]).steps
    return state["step"], steps


def read_run(run: Path, *, kind: str, which: Literal["best", "last", "auto"] = "auto") -> tuple[State, Config]:
    """Returns the state and the configuration of a run of the given kind, `pretrain` or `finetune`.

    Raises:
        RunError: no checkpoint, or one of another kind.
    """
    path = find_checkpoint(run, which=which)
    state = read_checkpoint(path)
    if state["kind"] != kind:
        raise RunError(f"{path} comes from {state['kind']}, a run of {kind} is needed here")
    return state, config_of(state, path)
