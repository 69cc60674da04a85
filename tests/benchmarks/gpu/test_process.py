"""A section's records come at once, its death is a record, and nothing that it started lives on."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu.process import isolated, parse
from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import ROOT, Record

SETTING = Setting(device="cpu", dry=True, seconds=60, threads=1, batches=4, scratch="", images=None)


def outcome(how: str, seconds: float = 60) -> list[Record]:
    records: list[Record] = []
    setting = replace(SETTING, options={"how": how}, seconds=seconds)
    isolated("bad", "tests.benchmarks.gpu.faulty", setting, records.append)
    return records


def alive(number: float) -> bool:
    status = Path(f"/proc/{int(number)}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.parametrize(
    ("how", "note"),
    [
        ("dies", "killed by SIGSEGV: it said nothing"),
        ("raises", "ended with code 1: RuntimeError: the decoder is gone"),
    ],
)
def test_a_section_that_dies_is_a_record_and_what_it_found_before_is_kept(how: str, note: str) -> None:
    before, last = outcome(how)
    assert (before.system, before.runs) == ("before", (1.0,))
    assert (last.case, last.system, last.note) == ("bad", "section failed", note)


def test_a_section_over_its_limit_leaves_no_process_behind() -> None:
    started = time.perf_counter()
    before, grandchild, last = outcome("hangs", seconds=6)
    assert time.perf_counter() - started < 60
    assert before.system == "before"
    assert last.note == "over its limit of 6 s"
    assert not alive(grandchild.median)


def test_a_section_that_ends_well_leaves_no_process_behind_either() -> None:
    _, grandchild, last = outcome("leaves")
    assert (last.case, last.system, last.unit) == ("time", "bad", "s")
    assert not alive(grandchild.median)
    assert alive(os.getpid())


def test_a_missing_module_is_a_record() -> None:
    records: list[Record] = []
    isolated("absent", "benchmarks.gpu.sections.absent", SETTING, records.append)
    (one,) = records
    assert one.note.startswith("ended with code 1: ModuleNotFoundError")


def test_what_a_library_prints_is_no_record() -> None:
    assert parse("[DALI] a warning") is None


_RUN = """
from benchmarks.gpu.process import isolated
from tests.benchmarks.gpu.test_process import SETTING, replace
keep = lambda one: print(int(one.median), flush=True)
isolated("bad", "tests.benchmarks.gpu.faulty", replace(SETTING, options={"how": "hangs"}), keep)
"""


def test_a_run_that_is_killed_takes_its_section_along() -> None:
    with subprocess.Popen([sys.executable, "-c", _RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        run.stdout.readline()
        grandchild = int(run.stdout.readline())
        section = int(Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()[1])
        run.kill()
    deadline = time.monotonic() + 30
    while alive(section) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(section)
    os.kill(grandchild, signal.SIGKILL)
