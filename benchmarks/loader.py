"""How fast do images become patch batches, next to what a user would pick instead?

    python -m benchmarks loader --peers all --rounds 10
    python -m benchmarks loader --peers ffcv --against ../before    # a change, measured: both in the same rounds

Every system is a process of its own, asleep while others are measured. A window settles first, until what was
prefetched during the sleep is used up. Ratios are of pairs from one round.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.child import Child, Unavailable
from benchmarks.harness.record import Record, record
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.work import material
from benchmarks.work.check import disagreements
from benchmarks.work.systems import FLOORS, OURS, SYSTEMS, System, choose
from benchmarks.work.task import Task, rows

QUESTION = "loader"
_PIECE_BYTES = 8 << 20
_STARTED_TOGETHER = 2  # nothing is measured yet, and half of a start is waiting
RESIZES = {one.name: one.resize for one in SYSTEMS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How long a system is measured a round, and how long before that it settles; seconds."""

    large_s: float = 0.9
    large_settle_s: float = 0.25
    small_s: float = 0.4
    small_settle_s: float = 0.15

    def of(self, task: Task) -> tuple[float, float]:
        """(measured, settling) for a task."""
        return (self.large_s, self.large_settle_s) if task.crops else (self.small_s, self.small_settle_s)


def run(
    *,
    names: Sequence[str],
    peers: str,
    rounds: int,
    dtypes: Sequence[str],
    threads: int,
    scratch: Path,
    images: Path | None,
    windows: Windows,
    limit: int | None = None,
    against: Path | None = None,
    keep: Callable[[list[Record]], None] | None = None,
) -> list[Record]:
    """Measures the rows `names` with every system that `peers` allows; returns records, ratios and skips included.

    `against` is another checkout of this project, measured in the same rounds (what was, beside what is).
    `keep` gets all records so far after every row: an interruption loses one row.
    """
    records: list[Record] = []
    for dtype in dtypes:
        table = rows(scratch, threads=threads, dtype=dtype)  # type: ignore[arg-type]
        for name in names or table:
            task = table[name]
            material.prepare(task.material, scratch, images=images, limit=limit)
            records += row(task, choose(name, peers, against=against), rounds, windows)
            if keep:
                keep(records)
    return records


def row(task: Task, systems: Sequence[System], rounds: int, windows: Windows) -> list[Record]:
    """Measures one row of the table."""
    children, skipped = start(task, systems)
    warm(task)
    try:
        checks, unseen = observed(children)
        measures = {name: partial(rate, child, *windows.of(task)) for name, child in children.items()}
        values, failed = survivors(measures, rounds, title=task.case)
    finally:
        for child in children.values():
            child.close()
    differing = disagreements(checks)
    measured = [_measured(children[name], task, runs, checks.get(name, {})) for name, runs in values.items()]
    gone = [
        record(QUESTION, task.case, name, [], unit="images/s", note=why)
        for name, why in (skipped | unseen | failed).items()
    ]
    notes = [record(QUESTION, task.case, "check", [], unit="", note=line) for line in differing]
    return [*measured, *ratios(task.case, values), *gone, *notes]


def warm(task: Task) -> None:
    """Reads every system's files of the row, so that no first epoch waits for a disk."""
    for path in sorted(task.source.parent.glob(f"{task.material}.*/**/*")) + sorted(task.source.parent.glob("*.beton")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(_PIECE_BYTES):
                    pass


def start(task: Task, systems: Sequence[System]) -> tuple[dict[str, Child], dict[str, str]]:
    """The systems that run here, and why the others do not."""
    children: dict[str, Child] = {}
    skipped: dict[str, str] = {}
    for first in range(0, len(systems), _STARTED_TOGETHER):
        for system in systems[first : first + _STARTED_TOGETHER]:
            try:
                children[system.name] = Child(system, task)
            except Unavailable as reason:
                skipped[system.name] = str(reason)
        for name in [one.name for one in systems[first : first + _STARTED_TOGETHER] if one.name in children]:
            try:
                children[name].wait_until_ready()
            except Unavailable as reason:
                children.pop(name).close()
                skipped[name] = str(reason)
    return children, skipped


def observed(children: dict[str, Child]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The check values of every system's first batch; one that fails at it is taken out, with the reason."""
    checks: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name, child in children.items():
        if name in FLOORS:
            continue
        try:
            checks[name] = child.ask(do="check")
        except Unavailable as reason:
            failed[name] = str(reason)
            continue
        if child.system.other_pixels and child.task.encoded:
            checks[name]["other_pixels"] = child.system.other_pixels
    for name in failed:
        children.pop(name).close()
    return checks, failed


def rate(child: Child, seconds: float, settle: float) -> float:
    """Images a second of one window."""
    window = child.measure(seconds, settle)
    return window["images"] / window["seconds"]


def survivors(
    measures: Mapping[str, Callable[[], float]], rounds: int, *, title: str
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Interleaved rounds; a system that fails on the way is taken out, with its reason, and the others go on."""
    failed: dict[str, str] = {}

    def guarded(name: str, measure: Callable[[], float]) -> float:
        if name in failed:
            return 0.0
        try:
            return measure()
        except Unavailable as reason:
            failed[name] = str(reason)
            return 0.0

    guards = {name: partial(guarded, name, measure) for name, measure in measures.items()}
    values = interleaved(guards, rounds, title=title)
    return {name: runs for name, runs in values.items() if name not in failed}, failed


def ratios(case: str, values: Mapping[str, Sequence[float]]) -> list[Record]:
    """Ours against every other system, pair by pair; floors too, so that our share of each is in the table."""
    found = []
    for ours in (name for name in OURS if name in values):
        for other, runs in values.items():
            if other not in OURS:
                pairs = pair_ratios(values[ours], runs)
                note = f"{RESIZES[other]} filter" if RESIZES.get(other) and "32-" not in case else ""
                found.append(record(QUESTION, case, f"{ours} / {other}", pairs, unit="ratio", note=note))
    return found


def _measured(child: Child, task: Task, runs: Sequence[float], check: Mapping[str, Any]) -> Record:
    settings = {**task.settings(), **child.task.settings(), **child.ready["settings"]}
    settings["material_images"] = material.load(task.source).description
    settings["first_batch_s"] = child.ready["first_batch_s"]
    return record(
        QUESTION,
        task.case,
        child.system.name,
        runs,
        unit="images/s",
        cache="hot (page cache)",
        settings=settings,
        check=check,
        versions=child.ready["versions"],
        note=_note(child.system, task),
    )


def _note(system: System, task: Task) -> str:
    notes = [f"{system.resize} filter" if system.resize and task.crops else "", system.other_pixels]
    return "; ".join(note for note in notes if note) if task.encoded else ""
