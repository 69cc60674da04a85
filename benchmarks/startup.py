"""How long until the first batch at 1.28 million samples?

    python -m benchmarks startup

Each run is a fresh process: imports, the constructor and the first batch are timed apart. Compile caches are warm (one
run before the measured ones), the page cache is hot. The promise is about constructor + first batch, imports done.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.child import Unavailable
from benchmarks.harness.record import ROOT, Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.work import material
from benchmarks.work.dataset import PackedSource
from benchmarks.work.task import Task, rows

QUESTION = "startup"
SAMPLES = 1_281_167  # ImageNet's training set
PACKAGES = ("torch", "numpy", "numba", "nvidia-dali-cuda130")
_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from pipelines import PatchLoader
import torch
imported = time.perf_counter()
options = {"global_batch_size": 512, "device": "cpu", "backend": sys.argv[2], "threads": int(sys.argv[3])}
loader = PatchLoader(Path(sys.argv[1]), **options)
built = time.perf_counter()
next(iter(loader))
first = time.perf_counter()
print(json.dumps({"import": imported - start, "constructor": built - imported, "first batch": first - built,
    "constructor + first batch": first - imported,
    "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None, samples: int = SAMPLES) -> list[Record]:
    """Measures start-up on `samples` raw 32 px images (the material, repeated)."""
    task = replace(rows(scratch, threads=threads)["raw32"], row=f"{samples}-samples")
    material.prepare(task.material, scratch, images=images)
    dataset = million(task, samples)
    values: dict[str, list[float]] = {}

    def once() -> float:
        for name, value in start(dataset, "auto", threads).items():
            values.setdefault(name, []).append(value)
        return 0.0

    start(dataset, "auto", threads)  # fills the compile caches
    interleaved({"selfie": once}, rounds, title=QUESTION)
    settings = {"samples": samples, "batch": 512, "images": material.load(task.source).description}
    return [
        record(
            QUESTION,
            task.row,
            f"selfie: {name}" if name != "MiB" else "selfie: peak memory",
            runs,
            unit="s" if name != "MiB" else "MiB",
            cache="hot; compile caches warm",
            settings=settings,
            versions=versions(PACKAGES),
        )
        for name, runs in values.items()
    ]


def million(task: Task, samples: int) -> Path:
    """Shards of `samples` images: the material again and again. Built once."""
    from selfie_data.build.build_shards import build_shards
    from selfie_data.build.options import BuildOptions

    target = Path(task.folder) / f"{task.material}.{samples}"
    if not (target / "manifest.json").exists():
        source = PackedSource(folder=task.source, pixels=True, samples=samples)
        build_shards(source, target, BuildOptions(size=task.image_size, encoding="raw"), workers=task.threads)
    return target


def start(dataset: Path, backend: str, threads: int) -> dict[str, float]:
    """Seconds of each part, and peak memory, of one fresh process."""
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(dataset), backend, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
