"""1.28 million generated 32 px pictures become shards, once: time, memory, bytes, and the time to open them.

    nice .venv/bin/python -m benchmarks.million --scratch FOLDER      takes about 7 GB there, and removes them

Appends a line to `results/million.jsonl`. Generating the pictures is most of the work and is measured by itself.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "million.jsonl"
COUNT = 1_281_167


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the dataset")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    given = parser.parse_args()
    out = given.scratch / "million"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "selfie_data.cli", "build-shards", "synthetic", str(out), "--limit"]
    command += [str(given.count), "--workers", str(given.workers), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    peaks = Peaks(process.pid)
    process.wait()
    seconds = time.perf_counter() - started
    peaks.stop()
    if process.returncode:
        raise SystemExit(process.returncode)
    line = {
        "question": "million",
        "images": given.count,
        "workers": given.workers,
        "seconds": round(seconds, 1),
        "images_per_s": round(given.count / seconds),
        "generate_images_per_core_s": round(generating_rate()),
        "cpu_seconds": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime),
        "peak_parent_mib": peaks.parent >> 20,
        "peak_worker_mib": peaks.worker >> 20,
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "shards": len(list(out.glob("*.tar"))),
        "open_s": [opening(out) for _ in range(5)],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))
    shutil.rmtree(out)


class Peaks:
    """Watches the resident memory of a process and of its children, ten times a second."""

    def __init__(self, pid: int) -> None:
        self.parent = 0
        self.worker = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.parent = max(self.parent, self._process.memory_info().rss)
                children = [child.memory_info().rss for child in self._process.children()]
            except psutil.NoSuchProcess:
                continue
            self.worker = max([self.worker, *children])


def generating_rate() -> float:
    """Pictures a second of processor time."""
    from selfie_data.sources.synthetic import SyntheticSource

    source = SyntheticSource(split="train", count=20_000, size=32, seed=0)
    started = time.process_time()
    for start in range(0, 20_000, 256):
        source.read_many(range(start, min(start + 256, 20_000)))
    return 20_000 / (time.process_time() - started)


def opening(out: Path) -> float:
    """Seconds `open_dataset` takes in a fresh process, imports not counted."""
    code = "import sys, time; from selfie_data.dataset.opened import open_dataset; s = time.perf_counter(); "
    code += "open_dataset(sys.argv[1]); print(time.perf_counter() - s)"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, capture_output=True, text=True, check=True)
    return round(float(done.stdout), 3)


if __name__ == "__main__":
    main()
