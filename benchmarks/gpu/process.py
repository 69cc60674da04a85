"""A section in a process of its own: its records as they come, its death as a record, nothing of it left behind.

A process, because what is asked includes whether NVIDIA's decoders crash; a crash, a hang or an error of one section is
a line in the results and the others go on. What a section starts (pytest, compilers) may begin a process group of its
own, so that killing the section's group would leave it on the GPU for the next section. Every process that a section
starts therefore carries a mark in its environment, by which it is found and ended.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import IO

from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import ROOT, Record, record

QUESTION = "gpu"
_MARK = "SELFIE_GPU_SECTION"
_ENDING_S = 10  # a process in the driver may take a moment to die

Keep = Callable[[Record], None]


def isolated(name: str, module: str, setting: Setting, keep: Keep) -> None:
    """Runs `module`, e.g. `benchmarks.gpu.sections.parity`, as section `name`; `keep` gets each record when it is made.

    There is at least one: how long it took, or how it ended.
    """
    mark = uuid.uuid4().hex
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.process", module, json.dumps(asdict(setting))]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, _MARK: mark, **({"TRITON_INTERPRET": "1"} if setting.device == "cpu" else {})},
        )
        reader = threading.Thread(target=_read, args=(process.stdout, keep), daemon=True)
        reader.start()
        late = False
        try:
            process.wait(timeout=setting.seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end_all(mark)
            process.wait()
        reader.join()
        errors.seek(0)
        said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    if late:
        keep(_failed(name, f"over its limit of {setting.seconds:.0f} s"))
    elif process.returncode:
        keep(_failed(name, f"{_ending(process.returncode)}: {said[-1][:300] if said else 'it said nothing'}"))
    else:
        keep(record(QUESTION, "time", name, [time.perf_counter() - start], unit="s", cache=""))


def end_all(mark: str) -> None:
    """Kills every process whose environment has the mark, and waits until none is left."""
    deadline = time.monotonic() + _ENDING_S
    while (found := list(marked(mark))) and time.monotonic() < deadline:
        for number in found:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)


def marked(mark: str) -> Iterator[int]:
    """The running processes with the mark; zombies have no environment."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def parse(line: str) -> Record | None:
    """The record that a section printed; None for what a library printed."""
    if not line.startswith('{"question"'):
        return None
    fields = json.loads(line)
    return Record(**{**fields, "runs": tuple(fields["runs"])})


def _read(stream: IO[bytes] | None, keep: Keep) -> None:
    assert stream is not None
    with stream:
        for line in stream:
            if (one := parse(line.decode(errors="replace"))) is not None:
                keep(one)


def _failed(name: str, reason: str) -> Record:
    return record(QUESTION, name, "section failed", [], unit="", note=reason)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    return f"killed by {signal.Signals(-code).name}"


def main() -> None:
    # A run that is killed cannot end its section: Linux does it. Number: PR_SET_PDEATHSIG of linux/prctl.h.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    module, told = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, str(Path.cwd()))
    import_module(module).run(Setting(**told))


if __name__ == "__main__":
    main()
