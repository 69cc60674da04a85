"""Every test that is marked `gpu`, run on the device."""

import re
import subprocess
import sys

from benchmarks.gpu.section import Setting, emit, verdict
from benchmarks.harness.record import ROOT

CASE = "correctness: tests"


def run(setting: Setting) -> None:
    """Counts passed, failed and skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider", "tests"]
    if setting.dry:
        command += ["--collect-only"]
    limit = max(setting.seconds - 10, 20)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    for word in ("passed", "failed", "error", "skipped", "collected", "selected"):
        if found := re.search(rf"(\d+)(?:/\d+)? (?:tests? )?{word}", last):
            emit(CASE, word, [float(found.group(1))], "tests")
    verdict(CASE, "all gpu tests pass", done.returncode in (0, 5), note=last[:200])
