"""A study as one file that can be kept: configuration, data, every cell, and where and for how long they ran.

    python -m benchmarks study-record STUDY SHARDS TEST --output benchmarks/results/study_imagenet32.json

May be written while the study is under way; table and chart then hold the finished cells. Other records of that
folder are of speed; this one is of accuracy, and a cell of it can be done again (`repeat_cell`).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import click
import msgspec

from benchmarks.harness.record import commit, host, versions
from selfie_data.dataset.manifest import Manifest
from selfie_data.files import write_output


class StudyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a study.

    Attributes:
        config: of its cells, budget applied.
        images: "train" and "test" → SHA-256 over the SHA-256 of the shards, which says which pixels these are.
        cells: name of the cell, as `final/selfie-5/seed-0`, → what it measured.
        table: as `results.json` of the study.
        hours: of all cells, one process of one thread each.
        host, versions, commit: of the machine and the checkout that recorded it.
    """

    config: dict[str, Any]
    images: dict[str, str]
    cells: dict[str, dict[str, Any]]
    table: dict[str, Any]
    hours: float
    host: dict[str, Any]
    versions: dict[str, str]
    commit: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `study-record` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    @property
    def pretrain_seeds(self) -> tuple[int, ...]:
        """Seeds of the pretrainings, rising."""
        return tuple(sorted(cell["seed"] for cell in self.cells.values() if cell["stage"] == "pretrain")) or (0,)

    def group(self, name: str) -> list[float]:
        """Returns the accuracies, 0..1, of the cells that differ from cell `name` in nothing but the seed."""
        folder = name.rpartition("/")[0]
        return [cell["accuracy"] for other, cell in self.cells.items() if other.rpartition("/")[0] == folder]


def images_digest(shards: Path) -> str:
    """Returns the SHA-256 over the SHA-256 of the shards of a dataset: of its images, labels and order."""
    entries = Manifest.load(shards).shards
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


@click.command("study-record")
@click.argument("study", type=click.Path(path_type=Path, exists=True))
@click.argument("shards", type=click.Path(path_type=Path, exists=True))
@click.argument("test", type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def command(study: Path, shards: Path, test: Path, output: Path) -> None:
    """The record of a study's finished cells, with its chart beside it."""
    from selfie_model.study.grid import DONE
    from selfie_model.study.results import chart, rows_from_json
    from selfie_model.study.run import STUDY

    begun, table = json.loads((study / STUDY).read_text()), json.loads((study / "results.json").read_text())
    for name, folder in (("fingerprint", shards), ("test", test)):
        if begun["identity"][name] != Manifest.load(folder).fingerprint:
            raise click.UsageError(f"{folder}: not the dataset of {study}")
    cells = {
        path.parent.relative_to(study).as_posix(): json.loads(path.read_text())
        for path in sorted(study.glob(f"*/**/{DONE}"))
    }
    record = StudyRecord(
        config=begun["config"],
        images={"train": images_digest(shards), "test": images_digest(test)},
        cells=cells,
        table=table,
        hours=round(sum(cell["seconds"] for cell in cells.values()) / 3600, 2),
        host=host(),
        versions=versions(["torch", "numpy"]),
        commit=commit(),
    )
    write_output(output, json.dumps(msgspec.to_builtins(record), indent=1, sort_keys=True) + "\n")
    write_output(output.with_suffix(".svg"), chart(rows_from_json(table)))
    click.echo(f"{len(cells)} cells, {record.hours:g} hours")
