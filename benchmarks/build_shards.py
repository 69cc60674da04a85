"""How fast do image files become shards, next to Pillow or OpenCV with `webdataset.ShardWriter`?

    python -m benchmarks build-shards
    python -m benchmarks build-shards --against ../before    # a change, measured: both in the same rounds

Rows: `resize` (full resolution -> shorter side 256 -> JPEG q90), `small` (the same for so few images that starting is
most of it), `keep` (small JPEGs as they are; peers only copy, we also decode each image once and hash everything),
`raw` (32 px JPEGs -> pixels; no peer does this). JPEGs get restart markers; `selfie, no markers` is what that costs.

Three figures each: images a second of the building, where the peers' processes have imported everything and ours have
not been started; images a second of the whole command, as a user waits for it (webdataset imports torch where that is
installed, about a second); microseconds of processor time an image of all processes of the command together. Our
workers are children of a server that outlives the command: as its new parent this process waits for it too.
"""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.child import Unavailable, interpreter
from benchmarks.harness.record import ROOT, Record, record
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.work import material

QUESTION = "build_shards"
LIMIT_S = 600
_ENDING_S = 20  # that processes may outlive their command
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_MARKED = ("resize", "keep")  # rows of photographs
# row: material, images a run, our way, the peers' ways
ROWS = {
    "resize": ("full", 4800, "resize", ("pillow", "opencv-area", "opencv-area-scaled")),
    "small": ("full", 128, "resize", ("opencv-area",)),
    "keep": ("jpeg256", 7680, "keep", ("copy",)),
    "raw": ("jpeg32", 50_000, "raw", ()),
}


class Run(NamedTuple):
    """One build: images, seconds that it took by its own count, seconds of its whole command, and of all processors."""

    images: int
    seconds: float
    command_s: float
    processor_s: float


FIGURES: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("", "images/s", lambda run: run.images / run.seconds),
    (", whole command", "images/s", lambda run: run.images / run.command_s),
    (", processor time", "us an image", lambda run: run.processor_s / run.images * 1e6),
)


def run(
    *,
    rounds: int,
    threads: int,
    scratch: Path,
    images: Path | None,
    share: float = 1.0,
    against: Path | None = None,
) -> list[Record]:
    """Measures all rows with `share` of their images; `against` is another checkout, built with in the same rounds."""
    records: list[Record] = []
    for row, (stored, count, ours, ways) in ROWS.items():
        source = material.prepare(stored, scratch, images=images)
        limit = min(int(count * share), len(material.load(source)))
        jobs = {"selfie": (ROOT, "main", "ours.build_shards", ours)}
        if row in _MARKED:
            jobs["selfie, no markers"] = (ROOT, "main", "ours.build_shards", f"{ours}-unmarked")
        if against:
            jobs["selfie before"] = (against, "main", "ours.build_shards", ours)
        jobs |= {f"{way} + ShardWriter": (ROOT, "bench", "peers.build_peer", way) for way in ways}
        records += _row(row, source, limit, jobs, rounds, threads)
    return records


def _row(
    row: str, source: Path, limit: int, jobs: dict[str, tuple[Path, str, str, str]], rounds: int, threads: int
) -> list[Record]:
    able, records = {}, []
    for name, job in jobs.items():
        try:
            build(*job, source, max(8, limit // 50), threads)
            able[name] = partial(build, *job, source, limit, threads)
        except Unavailable as reason:
            records.append(record(QUESTION, row, name, [], unit="images/s", note=str(reason)))
    settings = {"images": limit, "processes": threads, "material": material.load(source).description}
    runs = interleaved(able, rounds, title=row)
    for suffix, unit, figure in FIGURES:
        values = {name: [figure(one) for one in done] for name, done in runs.items()}
        case = row + suffix
        records += [record(QUESTION, case, name, each, unit=unit, settings=settings) for name, each in values.items()]
        if "selfie" in values:
            records += [
                record(QUESTION, case, f"selfie / {name}", pair_ratios(values["selfie"], each), unit="ratio")
                for name, each in values.items()
                if name != "selfie"
            ]
    return records


def build(checkout: Path, environment: str, module: str, way: str, source: Path, limit: int, threads: int) -> Run:
    """One build by the code of `checkout` into a fresh folder, removed afterwards."""
    folder = tempfile.mkdtemp(dir=source.parent)
    command = [str(interpreter(environment)), "-W", "ignore", "-m", f"benchmarks.{module}"]
    command += [way, str(source), folder, str(limit), str(threads)]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    started, before = time.perf_counter(), _children_s()
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        command_s = time.perf_counter() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"ended with code {done.returncode}: {said[-1].strip() if said else 'nothing said'}")
    answer = json.loads(done.stdout.splitlines()[-1])
    _wait_for_orphans()
    return Run(answer["images"], answer["seconds"], command_s, _children_s() - before)


def _children_s() -> float:
    """Processor time of all processes that were waited for, here or by one of them."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _wait_for_orphans() -> None:
    """Waits until no process that a command left is alive.

    Raises:
        Unavailable: one is after 20 s.
    """
    deadline = time.monotonic() + _ENDING_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)
        except ChildProcessError:
            return
    raise Unavailable(f"a process of it is alive {_ENDING_S} s after its end")
