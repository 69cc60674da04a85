"""What happened in a run, one JSON object a line: `RUN/journal.jsonl`.

    {"event": "train", "step": 50, "loss": 1.38, "accuracy": 0.262, …}
    {"event": "validation", "step": 1000, "loss": 1.21, "accuracy": 0.45, …}
    {"event": "moved", "step": 2400, "from": "0ca06abf…", "to": "020c2df8…"}
    {"event": "batch", "step": 1, "epoch": 0, "ranks": 2, "ids": "0091af9a63cc", "tensors": "e882c490d6f4"}

`batch` lines are there with `runtime.journal_batches`: what the global batch of that step held (`pipelines.digest`).

`moved`: the dataset was followed to what it has become.

A run that goes on from a checkpoint first drops the lines after it, so that every step stands there once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from selfie_data.errors import RunError
from selfie_data.files import number, write_output

NAME = "journal.jsonl"
_MEASUREMENTS = ("train", "validation")  # a divergence names its loss in words
_NUMBERS = {"loss", "accuracy", "images_per_s"}  # what readers compute with


class ScalarWriter(Protocol):
    """What this project uses of TensorBoard's writer."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


class Journal:
    """Appends to a run's journal, and to TensorBoard if asked to."""

    def __init__(self, run: Path, *, after_step: int = 0, tensorboard: bool = False) -> None:
        self._path = run / NAME
        self._board = open_tensorboard(run, after_step=after_step) if tensorboard else None
        kept = [record for record in read_journal(run) if record["step"] <= after_step]
        write_output(self._path, "".join(json.dumps(record) + "\n" for record in kept))
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
    for count, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            try:
                records.append(_record(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise RunError(f"{path}: line {count} is damaged ({error}); delete that line") from error
    return records


def _record(line: bytes) -> dict[str, Any]:
    """Returns a line's record, having checked that it has an event, a step and, as a measurement, numbers."""
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise TypeError("it must be an object with an event")
    number(record, "step")
    if record["event"] in _MEASUREMENTS:
        for name in record.keys() & _NUMBERS:
            number(record, name)
    return record


def open_tensorboard(run: Path, *, after_step: int = 0) -> ScalarWriter:
    """Returns a writer into `RUN/tensorboard`; what stands there of steps after `after_step` is no longer shown.

    Raises:
        RunError: the optional package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RunError("--tensorboard needs the package tensorboard: pip install 'selfie[tensorboard]'") from error
    writer: ScalarWriter = SummaryWriter(str(run / "tensorboard"), purge_step=after_step + 1)
    return writer
