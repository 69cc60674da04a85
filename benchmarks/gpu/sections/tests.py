"""Every test that is marked `gpu`, run on the device."""

import re
import subprocess
import sys

from benchmarks.gpu.measure import emit, verdict
from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import ROOT

CASE = "correctness: tests"
_MARKED = re.compile(r"\bmark\.gpu\b")


def run(setting: Setting) -> None:
    """Counts passed, failed and skipped; failures by name."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider", "-rfE"]
    # The suite turns warnings into errors: right for the pinned versions, wrong for the newer ones of a lent host.
    command += ["-W", "default"]
    command += ["--collect-only"] if setting.dry else []
    limit = max(setting.seconds - 5, 20)
    done = subprocess.run([*command, *files()], cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    lines = done.stdout.strip().splitlines() or ["no output"]
    for word in ("passed", "failed", "error", "skipped", "collected", "selected"):
        if found := re.search(rf"(\d+)(?:/\d+)? (?:tests? )?{word}", lines[-1]):
            emit(CASE, word, [float(found.group(1))], "tests")
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):
            emit(CASE, line.split()[1], [], "", note=line[:300])
    verdict(CASE, "all gpu tests pass", done.returncode == 0, note=lines[-1][:200])


def files() -> list[str]:
    """The test files that have such tests: importing all the others would take longer than running these."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in tests if _MARKED.search(path.read_text())]
