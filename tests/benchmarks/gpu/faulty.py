"""Sections that end badly, for the tests of `benchmarks.gpu.process`."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.gpu.measure import emit
from benchmarks.gpu.setting import Setting


def run(setting: Setting) -> None:
    emit("case", "before", [1.0], "images/s")
    print("a library talks")
    how = setting.options["how"]
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "raises":
        raise RuntimeError("the decoder is gone")
    # a grandchild out of reach of the section's process group
    code = "import time; time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    emit("case", "grandchild", [float(grandchild.pid)], "pid")
    if how == "hangs":
        time.sleep(600)
