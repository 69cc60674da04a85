"""Sections that end badly, for the tests of `benchmarks.gpu.process`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import record


def emit(system: str, value: float) -> None:
    """As `benchmarks.gpu.measure.emit`, which imports torch."""
    print(json.dumps(asdict(record("gpu", "case", system, [value], unit="images/s"))), flush=True)


def run(setting: Setting) -> None:
    emit("before", 1.0)
    print("a library talks")
    how = setting.options["how"]
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "raises":
        raise RuntimeError("the decoder is gone")
    # a grandchild out of reach of the section's process group
    code = "import time; time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    emit("grandchild", float(grandchild.pid))
    if how == "hangs":
        time.sleep(600)
