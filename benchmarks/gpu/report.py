"""Records as they come into a file, and the tables of such files."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from benchmarks.gpu.process import QUESTION
from benchmarks.gpu.targets import TARGETS, medians
from benchmarks.harness.record import RESULTS, Record
from benchmarks.harness.table import layout, summary

# Decoded on one core: 5,608 synthetic images a second, of 12.4 KB in the mean, or 3,131 real ones of 30.0 KB (256 px).
TOO_GOOD = "synthetic images: rates too good by about 1.8"
DRY = "DRY RUN on a CPU: these numbers mean nothing, and no figure of a GPU is claimed"


def destination(given: Path | None, *, dry: bool) -> Path:
    """The file of the records: as given, else in the folder that the variable OUT names, else in `results/`."""
    name = f"{QUESTION}.dry-run.jsonl" if dry else f"{QUESTION}.jsonl"
    return given or Path(os.environ.get("OUT") or RESULTS) / name


def append(one: Record, path: Path) -> None:
    """Adds one line and hands it to the system: what comes after may take this process down."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(one), sort_keys=True) + "\n")


def marked(one: Record, *, real: bool, dry: bool) -> Record:
    """The record with a word on what its numbers are worth."""
    notes = [one.note]
    if stored := one.settings.get("stored"):
        one = replace(one, settings={**one.settings, "images": "real" if real else "synthetic"})
        decoded = stored != "raw32" and one.unit in ("images/s", "share", "ratio")
        notes.append("" if real or not one.n else TOO_GOOD if decoded else "synthetic images")
    notes.append("dry run on a CPU" if dry else "")
    return replace(one, note="; ".join(note for note in notes if note))


def tables(records: Sequence[Record], *, dry: bool) -> str:
    """A table a case, and what was promised with what was measured."""
    synthetic = any(one.settings.get("images") == "synthetic" for one in records)
    values = {} if dry else medians(records)
    lines = [target.line(values, images=TOO_GOOD if synthetic else "") for target in TARGETS]
    promises = layout(("target", "promised", "measured", "verdict"), lines)
    cards = sorted({one.host["gpu"] for one in records if one.host.get("gpu")})
    heading = [DRY if dry else ", ".join(cards), TOO_GOOD if synthetic else ""]
    return "\n".join(line for line in heading if line) + f"\n\n{summary(records)}\n\n{promises}\n"


def show(records: Sequence[Record], path: Path | None, *, dry: bool) -> None:
    """Prints the tables, and writes them beside the records."""
    text = tables(records, dry=dry)
    if path:
        path.with_suffix(".txt").write_text(text)
    click.echo(text)
