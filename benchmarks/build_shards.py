"""How fast do image files become shards, next to Pillow or OpenCV with `webdataset.ShardWriter`?

    python -m benchmarks build-shards

Rows: `resize` (full resolution -> shorter side 256 -> JPEG q90), `keep` (small JPEGs stored byte for byte; peers only
copy, we also decode each image once and hash everything), `raw` (32 px JPEGs -> pixels; no peer does this).
"""

import json
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import material
from benchmarks.child import Unavailable, interpreter
from benchmarks.record import ROOT, Record, record
from benchmarks.rounds import interleaved
from benchmarks.statistics import pair_ratios

QUESTION = "build_shards"
LIMIT_S = 600
# row: material, images a run, systems as (name, environment, module, way)
ROWS = {
    "resize": ("full", 2880, ("pillow", "opencv-area", "opencv-area-scaled")),
    "keep": ("jpeg256", 7680, ("copy",)),
    "raw": ("jpeg32", 50_000, ()),
}


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None, share: float = 1.0) -> list[Record]:
    """Measures all rows with `share` of their images."""
    records: list[Record] = []
    for row, (stored, count, ways) in ROWS.items():
        source = material.prepare(stored, scratch, images=images)
        limit = min(int(count * share), len(material.load(source)))
        jobs = {"selfie": ("main", "build_selfie", row)}
        jobs |= {f"{way} + ShardWriter": ("bench", "build_peer", way) for way in ways}
        records += _row(row, source, limit, jobs, rounds, threads)
    return records


def _row(
    row: str, source: Path, limit: int, jobs: dict[str, tuple[str, str, str]], rounds: int, threads: int
) -> list[Record]:
    able, records = {}, []
    for name, job in jobs.items():
        try:
            build(*job, source, max(8, limit // 50), threads)
            able[name] = partial(build, *job, source, limit, threads)
        except Unavailable as reason:
            records.append(record(QUESTION, row, name, [], unit="images/s", note=str(reason)))
    settings = {"images": limit, "processes": threads, "material": material.load(source).description}
    values = interleaved(able, rounds, title=row)
    records += [record(QUESTION, row, name, runs, unit="images/s", settings=settings) for name, runs in values.items()]
    for name, runs in values.items():
        if name != "selfie" and "selfie" in values:
            pairs = pair_ratios(values["selfie"], runs)
            records.append(record(QUESTION, row, f"selfie / {name}", pairs, unit="ratio"))
    return records


def build(environment: str, module: str, way: str, source: Path, limit: int, threads: int) -> float:
    """Images a second of one build into a fresh folder, removed afterwards."""
    folder = tempfile.mkdtemp(dir=source.parent)
    command = [str(interpreter(environment)), "-W", "ignore", "-m", f"benchmarks.peers.{module}"]
    command += [way, str(source), folder, str(limit), str(threads)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"ended with code {done.returncode}: {said[-1].strip() if said else 'nothing said'}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return float(answer["images"] / answer["seconds"])
