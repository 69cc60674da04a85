"""Every section runs on a CPU where only what a GPU host has can be imported, and where there is no git."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from benchmarks.gpu.pack import listed, normal
from benchmarks.gpu.plan import SECTIONS
from benchmarks.harness.record import ROOT, load

OURS = {"benchmarks", "pipelines", "selfie_data", "selfie_model", "tests", "conftest", "sitecustomize"}
REFUSED = ("matplotlib", "jinja2", "safetensors", "pyarrow", "onnx", "tensorboard", "beartype", "selfie")
LIMIT_S = 270


def modules() -> set[str]:
    """The top-level modules of the distributions that a host or the pack has."""
    there = {normal(one) for one in listed("host.txt") + listed("requirements.txt")}
    names = set(OURS)
    for one in distributions():
        if normal(one.metadata["Name"]) in there:
            names |= {path.parts[0].partition(".")[0] for path in one.files or () if path.suffix in (".py", ".so")}
    return names


@pytest.fixture
def bare_host(tmp_path: Path) -> dict[str, str]:
    """The environment of such a host: no git on the path, no real images, every other module refused."""
    site, programs = tmp_path / "site", tmp_path / "programs"
    site.mkdir()
    programs.mkdir()
    shutil.copy(Path(__file__).with_name("bare_host.py"), site / "sitecustomize.py")
    environment = {name: value for name, value in os.environ.items() if name != "SELFIE_TEST_DATA"}
    environment |= {"PYTHONPATH": str(site), "PATH": str(programs), "OUT": str(tmp_path / "out")}
    environment["OMP_NUM_THREADS"] = "1"
    return {**environment, "SELFIE_BARE_HOST": ",".join(sorted(modules()))}


@pytest.mark.timeout(LIMIT_S + 30)
def test_every_section_runs_on_a_bare_host(bare_host: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--scratch", str(tmp_path / "scratch")]
    done = subprocess.run(
        command, cwd=ROOT, env=bare_host, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    records = load(tmp_path / "out" / "gpu.dry-run.jsonl")
    assert [f"{one.case}: {one.note}" for one in records if one.system == "section failed"] == []
    assert {one.system for one in records if one.case == "time"} == {one.name for one in SECTIONS}
    skipped = {one.note.partition(";")[0] for one in records if not one.n}
    assert {note for note in skipped if "triton" not in note} <= {"needs a GPU"}
    assert [one.system for one in records if one.unit == "holds" and not one.median] == []
    assert {one.commit for one in records} == {"unknown"}
    assert "synthetic images" in done.stdout


@pytest.mark.parametrize("name", REFUSED)
def test_the_bare_host_refuses_what_is_on_no_list(bare_host: dict[str, str], name: str) -> None:
    command = [sys.executable, "-c", f"import {name}"]
    done = subprocess.run(command, cwd=ROOT, env=bare_host, capture_output=True, text=True, check=False)
    assert f"No module named {name!r}" in done.stderr
