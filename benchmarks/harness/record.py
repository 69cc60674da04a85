"""The one shape of a result: a measured number with everything needed to judge it, as one JSON line.

Records name no host, user or path: the machine is described by what decides speed (processor, cores, memory).
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness.statistics import interval, median

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measured quantity of one system.

    Attributes:
        question: the benchmark, e.g. `loader`.
        case: the row of its table, e.g. `jpeg256-antialiased-float32`.
        system: what was measured, e.g. `selfie` or `selfie / spdl` for a ratio of pairs.
        unit: `images/s`, `s`, `MiB`, `ratio`.
        runs: every value, in the order measured.
        median, low, high: of `runs`; low and high bound the median's 95 % bootstrap interval.
        cache: state of the caches, e.g. `hot`.
        settings: what was chosen for the system and for the work.
        check: what came out (shape, dtype, range, mean, digest), empty where nothing does.
        note: why a system was skipped, or what the reader must know.
    """

    question: str
    case: str
    system: str
    unit: str
    runs: tuple[float, ...]
    median: float
    low: float
    high: float
    n: int
    cache: str
    settings: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    note: str = ""


def record(
    question: str,
    case: str,
    system: str,
    runs: Sequence[float],
    *,
    unit: str,
    cache: str = "hot",
    settings: Mapping[str, Any] | None = None,
    check: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    note: str = "",
) -> Record:
    """Returns the record of `runs`, with median, interval, host and commit filled in; no runs means skipped."""
    low, high = interval(runs) if runs else (0.0, 0.0)
    return Record(
        question=question,
        case=case,
        system=system,
        unit=unit,
        runs=tuple(float(f"{value:.6g}") for value in runs),
        median=float(f"{median(runs):.6g}") if runs else 0.0,
        low=float(f"{low:.6g}"),
        high=float(f"{high:.6g}"),
        n=len(runs),
        cache=cache,
        settings=dict(settings or {}),
        check=dict(check or {}),
        host=host(),
        versions=dict(versions or {}),
        commit=commit(),
        note=note,
    )


def host() -> dict[str, Any]:
    """What of this machine decides speed."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of those of `packages` that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The commit measured, with `+` when tracked files differ from it; `unknown` outside a checkout or without git."""
    asked = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        result = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def save(records: Iterable[Record], path: Path) -> None:
    """Replaces the file at `path` by these records, one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    lines = (json.dumps(asdict(one), sort_keys=True) for one in records)
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(path)


def load(path: Path) -> list[Record]:
    """Reads what `save` wrote. A last line that was not finished, since a run was cut short, is left out."""
    finished = path.read_text().rpartition("\n")[0]
    fields = (json.loads(line) for line in finished.splitlines() if line)
    return [Record(**{**one, "runs": tuple(one["runs"])}) for one in fields]


def record_files(folder: Path) -> list[Path]:
    """The files of `folder` that `save` wrote; what tests and single measurements leave there has other shapes."""
    return [path for path in sorted(folder.glob("*.jsonl")) if '"runs": [' in path.read_text().partition("\n")[0]]


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
