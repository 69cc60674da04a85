"""Does twice the cores give twice the images, and do several ranks on one machine stay out of each other's way?

    python -m benchmarks scaling

Threads: one loader with 1, 2, 4 ... threads. Ranks: the cores shared out to 1, 2, 4 ... loaders that run at the same
time, each with its slice of the same global batches.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.harness.child import Child, Unavailable
from benchmarks.harness.record import Record, record
from benchmarks.harness.rounds import interleaved
from benchmarks.work import material
from benchmarks.work.systems import SYSTEMS
from benchmarks.work.task import Task, rows

QUESTION = "scaling"
ROWS = ("jpeg256-antialiased", "raw32")


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None, window_s: float = 1.2) -> list[Record]:
    """Measures both rows at every power of two up to `threads`."""
    records: list[Record] = []
    selfie = next(one for one in SYSTEMS if one.name == "selfie")
    steps = [2**power for power in range(threads.bit_length()) if 2**power <= threads]
    for name in ROWS:
        task = rows(scratch, threads=threads)[name]
        material.prepare(task.material, scratch, images=images)
        layouts = {f"{count} threads": [replace(task, threads=count)] for count in steps}
        layouts |= {f"{count} ranks": _ranks(task, count) for count in steps if count > 1}
        groups: dict[str, list[Child]] = {}
        try:
            for label, tasks in layouts.items():
                groups[label] = [Child(selfie, one) for one in tasks]
                for child in groups[label]:
                    child.wait_until_ready()
            measures = {label: partial(_together, group, window_s) for label, group in groups.items()}
            values = interleaved(measures, rounds, title=name)
        except Unavailable as reason:
            records.append(record(QUESTION, name, "selfie", [], unit="images/s", note=str(reason)))
            continue
        finally:
            for child in (one for group in groups.values() for one in group):
                child.close()
        settings = task.settings()
        records += [
            record(QUESTION, name, label, runs, unit="images/s", settings=settings) for label, runs in values.items()
        ]
    return records


def _ranks(task: Task, count: int) -> list[Task]:
    return [replace(task, threads=task.threads // count, rank=rank, ranks=count) for rank in range(count)]


def _together(group: list[Child], window_s: float) -> float:
    """Images a second of all loaders of a group, measured over the same time."""
    with ThreadPoolExecutor(len(group)) as pool:
        windows = list(pool.map(lambda child: child.measure(window_s, 0.3), group))
    return float(sum(window["images"] / window["seconds"] for window in windows))
