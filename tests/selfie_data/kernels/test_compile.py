"""Where compiled kernels are kept, and when they are compiled again."""

import ast
import builtins
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from selfie_data.kernels import compile as compiling

ROOT = Path(compiling.__file__).parents[2]
KERNEL_FILES = sorted(
    path for package in ("selfie_data", "pipelines") for path in (ROOT / package / "kernels").glob("*.py")
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder that holds a copy of the package."""
    shutil.copytree(ROOT / "selfie_data", tmp_path / "selfie_data", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(code: str, folder: Path = ROOT, **environment: str) -> str:
    command = [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(folder)!r})\n{textwrap.dedent(code)}"]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


TAPS = """
    from selfie_data.kernels.resample import taps_of
    weights = taps_of(10, 5, 0, 5, False, True)[1]
    print(weights[2].tolist(), sum(taps_of.stats.cache_hits.values()))
"""


def test_a_changed_kernel_makes_those_that_call_it_stale(copy: Path) -> None:
    before = run(TAPS, copy)
    assert before.endswith(" 0")
    assert run(TAPS, copy) == before[:-1] + "1"
    path = copy / "selfie_data" / "kernels" / "resample.py"
    text = path.read_text()
    changed = text.replace("return max(1.0 - abs(", "return max(2.0 - abs(")  # `_triangle`, which `taps_of` calls
    assert changed != text
    path.write_text(changed)
    after = run(TAPS, copy)
    assert after.endswith(" 0")
    assert after != before


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_use_nothing_of_other_files_of_ours(path: Path) -> None:
    """Numba judges a kept kernel by its own file: what comes from elsewhere would be compiled in and go stale."""
    tree = ast.parse(path.read_text())
    foreign = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("selfie_data", "pipelines")
        for alias in node.names
    }
    kernels = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    for kernel in kernels:
        used = {node.id for part in kernel.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        assert not used & foreign - set(dir(builtins)), kernel.name


def test_a_machine_without_a_writable_folder_compiles_for_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*, cache: bool = False, **_: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", refuse)
    with caplog.at_level(logging.WARNING):
        double = compiling.kernel(lambda x: 2 * x)
    assert double(21) == 42
    assert "cannot be kept" in caplog.text


def test_where_the_sources_are_read_only_kernels_are_kept_in_the_users_folder(copy: Path) -> None:
    (copy / "selfie_data" / "kernels" / "__pycache__").write_text("no folder can be made here, not even by root")
    cache = copy / "cache"
    quiet = {"XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(TAPS, copy, **quiet).endswith(" 0")
    assert list(cache.rglob("*.nbi"))
    assert run(TAPS, copy, **quiet).endswith(" 1")


def test_few_images_do_not_wait_for_kernels() -> None:
    code = """
        import numpy as np
        from selfie_data.images.resize import resize
        from selfie_data.images.statistics import sum_pixels
        from selfie_data.kernels.load import MIN_CALLS
        pixels = np.zeros((30, 40, 3), np.uint8)
        loaded = []
        for _ in range(MIN_CALLS // 2 + 1):
            sum_pixels(resize(pixels, 15, 20))
            loaded.append("numba" in sys.modules)
        print(loaded.index(True), loaded[-1])
    """
    assert run(code) == "32 True"
