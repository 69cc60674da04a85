"""Kernels kept as machine code: compiled once, linked without Numba, never trusted when damaged."""

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.images.statistics import _compiled, sum_by_numpy
from selfie_data.kernels import machine_code
from selfie_data.kernels.machine_code import INT, POINTER, link

SUM = ("summing_kernel", "sum_channels", POINTER, INT, POINTER, POINTER)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which code is looked for and kept."""
    monkeypatch.setattr(machine_code, "_folders", lambda: iter([tmp_path / "kept"]))
    link.cache_clear()
    yield tmp_path / "kept"
    link.cache_clear()


def sums() -> list[int]:
    pixels, counters, result = np.full((7, 9, 3), 5, np.uint8), np.empty(96, np.uint32), np.empty(6, np.uint64)
    link(*SUM)(pixels.ctypes.data, 63, counters.ctypes.data, result.ctypes.data)
    return list(map(int, result))


EXPECTED = 3 * [63 * 5] + 3 * [63 * 25]


@settings(deadline=None, max_examples=100)
@given(height=st.integers(1, 40), width=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_sums_are_those_of_numpy(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert _compiled(pixels) == sum_by_numpy(pixels)
    assert _compiled(pixels[::-1, ::-1]) == sum_by_numpy(pixels)


@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 16 * 65_536 - 1, 16 * 65_536 + 1, 16 * 131_072 + 5])
def test_counters_do_not_overflow(pixels: int) -> None:
    white = np.full((1, pixels, 3), 255, np.uint8)
    assert _compiled(white) == (pixels, 3 * (255 * pixels,), 3 * (65_025 * pixels,)) == sum_by_numpy(white)


def test_code_is_compiled_once_and_then_linked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sums() == EXPECTED
    [kept] = folder.iterdir()
    link.cache_clear()
    monkeypatch.setattr(machine_code, "_compile", pytest.fail)
    assert sums() == EXPECTED
    assert [kept] == list(folder.iterdir())


@pytest.mark.parametrize("damage", [lambda code: code[:-1], lambda code: code[:40] + b"?" + code[41:], lambda _: b""])
def test_damaged_code_is_compiled_again(folder: Path, damage: object) -> None:
    sums()
    [kept] = folder.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))  # type: ignore[operator]
    link.cache_clear()
    assert sums() == EXPECTED
    assert kept.read_bytes() == whole


def test_where_nothing_can_be_kept_code_is_compiled_for_the_process(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_bytes(b"no folder")
    with caplog.at_level(logging.WARNING):
        assert sums() == EXPECTED
    assert "every process compiles them again" in caplog.text


def test_a_read_only_package_keeps_its_code_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = machine_code._folders()
    assert first == Path(machine_code.__file__).parent / "__pycache__"
    assert second == tmp_path / "selfie"


def test_a_resize_needs_no_numba_once_its_kernel_is_kept() -> None:
    code = """
        import sys
        import numpy as np
        from selfie_data.images.resize import resize
        from selfie_data.images.statistics import sum_pixels
        sum_pixels(resize(np.zeros((300, 400, 3), np.uint8), 256, 341))
        print("numba" in sys.modules)
    """
    for name in ("resize_kernel.resize_image", "summing_kernel.sum_channels"):
        if machine_code._read(name) is None:
            machine_code._keep(name, machine_code._compile(*name.split(".")))
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_few_calls_on_a_new_machine_do_not_wait_for_a_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "_asked", iter(range(1000)))
    machine_code._is_kept.cache_clear()
    answers = [machine_code.is_worthwhile(*SUM[:2]) for _ in range(70)]
    assert answers == 64 * [False] + 6 * [True]
    machine_code._is_kept.cache_clear()
    assert not folder.exists()
