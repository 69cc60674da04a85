"""What happened in a run, one JSON object a line: `RUN/journal.jsonl`.

    {"event": "train", "step": 50, "loss": 1.38, "accuracy": 0.262, …}
    {"event": "validation", "step": 1000, "loss": 1.21, "accuracy": 0.45, …}

A run that goes on from a checkpoint first drops the lines after it, so that every step stands there once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from selfie_model.atomic import write_text
from selfie_model.errors import RunError

NAME = "journal.jsonl"


class ScalarWriter(Protocol):
    """What this project uses of TensorBoard's writer."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


class Journal:
    """Appends to a run's journal, and to TensorBoard if asked to."""

    def __init__(self, run: Path, *, after_step: int = 0, tensorboard: bool = False) -> None:
        self._path = run / NAME
        self._board = open_tensorboard(run) if tensorboard else None
        kept = [record for record in read_journal(run) if record["step"] <= after_step]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """Appends one line; numbers also become scalars `EVENT/NAME` of TensorBoard."""
        self._file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if not isinstance(value, str):
                    self._board.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_journal(run: Path) -> list[dict[str, Any]]:
    """Returns the records of a run's journal in order; a last line cut short by a crash is left out.

    Raises:
        RunError: another line is damaged.
    """
    path = run / NAME
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise RunError(f"{path}: line {number} is damaged ({error}); delete that line") from error
    return records


def open_tensorboard(run: Path) -> ScalarWriter:
    """Returns a writer into `RUN/tensorboard`.

    Raises:
        RunError: the optional package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RunError("--tensorboard needs the package tensorboard: pip install 'selfie[tensorboard]'") from error
    writer: ScalarWriter = SummaryWriter(str(run / "tensorboard"))
    return writer
