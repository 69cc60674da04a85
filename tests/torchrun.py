"""Processes of this machine under `torchrun`, for tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def torchrun(processes: int, script: Path | str, *arguments: str, folder: Path | None = None) -> str:
    """Runs a script in so many processes of one thread each, in `folder`, to its end; returns what they print."""
    command: Sequence[str] = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    done = subprocess.run(
        [sys.executable, *command, str(script), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
