"""Where do the microseconds of a photograph go, from its shard to float32 patches?

    python -m benchmarks photograph

The loader as it is, its stages timed by the processor time of the thread that is in them, so that other processes and
waiting do not count. `total` is measured in the same rounds without that timing. `the rest of the workers` is Python
between the stages, tasks and their hand-overs; `main thread` is drawing, planning, handing out. The wall clock counts
what waits, and needs a quiet machine.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.ours import loader as ours
from benchmarks.work import material
from benchmarks.work.task import rows
from pipelines.backends import cpu, cpu_shards
from pipelines.backends.jpeg_windows import Windows
from pipelines.backends.shard_reader import ShardReader

QUESTION = "photograph"
CASES = ("jpeg256-antialiased", "full-antialiased")
STAGES: dict[str, tuple[Any, str]] = {
    "read, check": (ShardReader, "read"),
    "cut the window": (Windows, "cut"),
    "decode": (cpu_shards, "_decode_jpeg"),
    "crop, resize, flip": (cpu, "cut_views"),
    "normalise, gather": (cpu, "gather"),
}
_BATCHES = 12
_UNIT = "us an image"

Figures = dict[str, float]


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures both materials with one thread and with `threads`."""
    records: list[Record] = []
    for row in CASES:
        for count in dict.fromkeys((1, threads)):
            task = rows(scratch, threads=count)[row]
            source = material.prepare(task.material, scratch, images=images)
            ours.convert(task)
            batches = ours.batches(task)
            next(batches)
            case = f"{row}, {count} thread{'s' * (count > 1)}"
            measures = {"plain": partial(_total, batches), "staged": partial(_stages, batches)}
            found = interleaved(measures, rounds, title=case)
            settings = {**task.settings(), "material_images": material.load(source).description}
            for name in found["plain"][0] | found["staged"][0]:
                values = [one[name] for one in found["plain" if name in found["plain"][0] else "staged"]]
                records.append(
                    record(
                        QUESTION, case, name, values, unit=_UNIT, settings=settings, versions=versions(ours.PACKAGES)
                    )
                )
    return records


def _total(batches: Iterator[Any]) -> Figures:
    wall, processor = time.perf_counter(), time.process_time()
    done = sum(len(next(batches)) for _ in range(_BATCHES))
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return {"total": processor / done * 1e6, "wall clock": wall / done * 1e6}


def _stages(batches: Iterator[Any]) -> Figures:
    with _timed() as spent:
        main, processor = time.thread_time(), time.process_time()
        done = sum(len(next(batches)) for _ in range(_BATCHES))
        processor, main = time.process_time() - processor, time.thread_time() - main
        figures = {stage: seconds / done * 1e6 for stage, seconds in spent.items()}
    figures["main thread"] = main / done * 1e6
    figures["the rest of the workers"] = processor / done * 1e6 - sum(figures.values())
    return figures


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Times all calls of the stages, in seconds by stage."""
    spent: dict[str, float] = defaultdict(float)
    lock = threading.Lock()

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            result = function(*arguments, **options)
            seconds = time.thread_time() - start
            with lock:
                spent[stage] += seconds
            return result

        return call

    patches = [patch.object(where, name, timed(stage, getattr(where, name))) for stage, (where, name) in STAGES.items()]
    for one in patches:
        one.start()
    try:
        yield spent
    finally:
        for one in patches:
            one.stop()
