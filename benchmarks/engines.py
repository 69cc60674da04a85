"""Do two workers do twice the work of one, whichever engine hands it out? And are their bytes the same?

    SELFIE_TEST_DATA=FOLDER python -m benchmarks engines --scratch /dev/shm/FOLDER    # in memory: processors alone

Work for processors: photographs at their original resolution shrunk to a shorter side of 256 px and encoded anew with
restart markers, from memory into memory, since to wait for a disk is no work of theirs. Whole commands, as a user waits
for them, from the first process to the manifest: one worker in the command's own process; as many as `--threads` by
processes, by parts that run at once (and `finish`), by a Ray cluster of nodes of one CPU, which runs already. `apart`
is what the machine itself can do: commands of one worker that know nothing of each other, each into its own folder.

Rows: `photographs`; `start`, so few that starting is most of it; `building`, their difference, of pairs in one round. A
dataset with other bytes than the first of its row ends the run.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.record import ROOT, Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.work import material
from tests.servers.ray_cluster import ray_cluster

QUESTION = "engines"
SAMPLES_PER_SHARD = 120
COPIES = {"photographs": 80, "start": 2}  # of the 120 photographs; a build refuses links of one file in several classes
_LIMIT_S = 900
_PACKAGES = ("numpy", "numba", "simplejpeg", "pillow", "ray")

Command = list[str]
Stages = list[list[Command]]  # one after another; the commands of a stage at once


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures every engine; each dataset is compared with the first of its row."""
    packed = material.load(material.prepare("full", scratch / QUESTION, images=images, limit=120))
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": tempfile.gettempdir()}
    digests: dict[str, str] = {}
    measures: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder, ray_cluster(environment, nodes=threads) as cluster:
        for row, copies in COPIES.items():
            _photographs(packed, Path(folder) / row, copies)
            out = Path(folder) / f"{row}-out"
            for name, stages in engines(Path(folder) / row, out, threads, cluster.address).items():
                measures[f"{row} {name}"] = partial(_measure, stages, out, digests, row)
        measures["start one"]()  # compiles kernels, if nobody did yet
        measures["start ray"]()  # starts the processes that a cluster keeps
        seconds = interleaved(measures, rounds, title=QUESTION)
    for whole in [name for name in seconds if name.startswith("photographs ")]:
        name = whole.removeprefix("photographs ")
        pairs = zip(seconds[whole], seconds[f"start {name}"], strict=True)
        seconds[f"building {name}"] = [each - start for each, start in pairs]
    settings = {"workers": threads, "samples_per_shard": SAMPLES_PER_SHARD, "material": packed.description}
    settings |= {"file_system": _file_system(scratch)}
    return [
        one
        for row in ("photographs", "building", "start")
        for one in _records(row, seconds, settings, digests.get(row))
    ]


def _records(
    row: str, seconds: Mapping[str, list[float]], settings: dict[str, Any], digest: str | None
) -> Iterator[Record]:
    """Yields the rates of a row and their ratios; of `start` the seconds, which are no matter of its few images."""
    chosen = {name.removeprefix(f"{row} "): values for name, values in seconds.items() if name.startswith(f"{row} ")}
    facts: dict[str, Any] = {"check": {"sha256": digest} if digest else {}, "versions": versions(_PACKAGES)}
    if row == "start":
        for name, values in chosen.items():
            yield record(QUESTION, row, name, values, unit="s", settings=settings, **facts)
        return
    images = 120 * (COPIES["photographs"] - COPIES["start"] * (row == "building"))
    workers = settings["workers"]
    rates = {
        name: [images * (workers if name == "apart" else 1) / each for each in values]
        for name, values in chosen.items()
    }
    for name, values in rates.items():
        yield record(QUESTION, row, name, values, unit="images/s", settings={**settings, "images": images}, **facts)
        for other in ("one", "apart"):
            if name not in ("one", other):
                yield record(QUESTION, row, f"{name} / {other}", pair_ratios(values, rates[other]), unit="ratio")


def engines(root: Path, out: Path, workers: int, address: str) -> dict[str, Stages]:
    """Returns the commands of each way to build `root`, all into `out` but those of `apart`."""
    program = [sys.executable, "-m", "selfie_data.cli"]

    def build(folder: Path, *more: str) -> Command:
        options = ["--root", str(root), "--size", "224", "--samples-per-shard", str(SAMPLES_PER_SHARD)]
        return [*program, "build-shards", "folder", str(folder), *options, *more]

    parts = [build(out, "--workers", "1", "--part", f"{part}/{workers}") for part in range(1, workers + 1)]
    return {
        "one": [[build(out, "--workers", "1")]],
        "processes": [[build(out, "--workers", str(workers))]],
        "parts": [parts, [[*program, "finish", str(out)]]],
        "ray": [[build(out, "--engine", "ray", "--ray-address", address)]],
        "apart": [[build(out.with_name(f"{out.name}-{number}"), "--workers", "1") for number in range(workers)]],
    }


def _file_system(folder: Path) -> str:
    """Returns what keeps the files, such as tmpfs, where durable costs nothing."""
    asked = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _photographs(packed: material.Packed, root: Path, copies: int) -> None:
    for copy in range(copies):
        (root / f"{copy:03d}").mkdir(parents=True)
        for number in range(len(packed)):
            (root / f"{copy:03d}" / f"{number:03d}.jpg").write_bytes(packed.payload(number).tobytes())


def _measure(stages: Stages, out: Path, digests: dict[str, str], row: str) -> float:
    """Returns the seconds of all stages; compares what they built with what was built of this row before."""
    started = time.perf_counter()
    for commands in stages:
        at_once(commands)
    seconds = time.perf_counter() - started
    for folder in sorted(out.parent.glob(f"{out.name}*")):
        compare(folder, digests, row)
        shutil.rmtree(folder)
    return seconds


def at_once(commands: Sequence[Command]) -> None:
    """Runs commands at once, to the end of all; SystemExit with what one said if it fails."""
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        said = [process.communicate(timeout=_LIMIT_S)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for command, process, text in zip(commands, started, said, strict=True):
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{text}")


def compare(folder: Path, digests: dict[str, str], row: str) -> None:
    """Holds the digest of all files of a dataset against that of the row; the first one is the row's."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    if digest != digests.setdefault(row, digest):
        raise SystemExit(f"{row}: {folder.name} has other bytes than the first dataset: {json.dumps(found, indent=1)}")
