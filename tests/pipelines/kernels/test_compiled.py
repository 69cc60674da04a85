"""Where compiled kernels are kept, and when they are compiled again."""

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pipelines
from selfie_data.kernels import compiled
from selfie_data.kernels.kernel_sources import stamp_of


def run(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_machine_without_a_writable_folder_compiles_for_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*, cache: bool = False, **_: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", refuse)
    with caplog.at_level(logging.WARNING):
        double = compiled.kernel(lambda x: 2 * x)
    assert double(21) == 42
    assert "cannot be kept" in caplog.text


def test_a_read_only_package_keeps_its_kernels_in_the_users_folder(tmp_path: Path) -> None:
    code = """
        import numba.core.caching as caching
        caching.InTreeCacheLocator.from_function = classmethod(lambda *_: None)  # as where the sources are read-only
        from pipelines.kernels.read import crc32c
        import numpy as np
        crc32c(np.zeros(8, np.uint8), 0, 8)
        print(sum(crc32c.stats.cache_hits.values()), sum(crc32c.stats.cache_misses.values()))
    """
    assert run(code, XDG_CACHE_HOME=str(tmp_path)) == "0 1"
    assert list(tmp_path.rglob("*.nbi"))
    assert run(code, XDG_CACHE_HOME=str(tmp_path)) == "1 0"


def test_a_change_of_any_kernel_file_makes_all_stale(tmp_path: Path) -> None:
    (tmp_path / "first_kernel.py").write_text("a = 1")
    before = stamp_of(tmp_path)
    stamp_of.cache_clear()
    assert stamp_of(tmp_path) == before
    (tmp_path / "second_kernel.py").write_text("b = 1")
    stamp_of.cache_clear()
    assert stamp_of(tmp_path) != before


def test_the_stamp_reaches_numba() -> None:
    """It is kept in a private place of Numba's; a new version may move it."""
    from pipelines.kernels.read import read_payloads

    assert read_payloads._cache._cache_file._source_stamp == stamp_of(Path(pipelines.__file__).parent / "kernels")


def test_compiling_is_announced_once(tmp_path: Path) -> None:
    code = """
        import logging, sys
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        from pipelines.kernels.read import crc32c_portable
        from selfie_data.kernels.compiled import announce
        import numpy as np
        announce(crc32c_portable)
        crc32c_portable(np.zeros(8, np.uint8), 0, 8)
        announce(crc32c_portable)
    """
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "compiling kernels, once; this takes some seconds"
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ""
