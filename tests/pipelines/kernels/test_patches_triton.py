"""Taps as the reference calculates them, and what the kernels are compiled to (`test_gpu_kernels`: how they cut)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.backends.plain_resize import coefficients
from pipelines.batch_plan import BatchPlan
from pipelines.kernels.patches_triton import Views, calculate_taps, views_of

ROOT = Path(__file__).parents[3]
MOST_REGISTERS = 80


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.booleans())
@example(size=1, output=7, antialias=True)
@example(size=1125, output=224, antialias=True)
@example(size=256, output=257, antialias=False)  # beyond the last pixel a weight would be no number of 32 bits
def test_taps_equal_those_of_the_reference(size: int, output: int, antialias: bool) -> None:
    """In both directions, to the last bit of every weight; beyond the taps that are stored, weights are zero."""
    stored = np.array([[size, output]])
    plan = BatchPlan(epoch=0, step=0, sample_id=np.zeros(1, np.int64), resize=np.array([[output, size]]))
    whole = np.hstack((np.zeros_like(stored), stored))
    on_host = views_of(plan, stored=stored, placed=whole, starts=np.zeros(1), needed=whole, antialias=antialias)
    views = Views(*(torch.from_numpy(np.ascontiguousarray(array)) for array in on_host))
    side = max(size, output)
    taps = calculate_taps(views, side, int(on_host.taps.max()), antialias=antialias)
    for line, (here, there) in enumerate([(size, output), (output, size)]):
        first, weights = coefficients(here, there, antialias=antialias)
        count = int(on_host.taps[0, line])
        np.testing.assert_array_equal(taps.first[0, line, :there].numpy(), first)
        ours = np.zeros((there, max(count, weights.shape[1])), np.int64)
        ours[:, :count] = taps.weight[0, line, :count, :there].numpy().T
        theirs = np.zeros_like(ours)
        theirs[:, : weights.shape[1]] = weights
        np.testing.assert_array_equal(ours, theirs)
        assert not taps.weight[0, line, :count, there:].any()


@pytest.mark.parametrize(("capability", "target"), [(80, "sm_80"), (90, "sm_90a"), (100, "sm_100a")])
def test_kernels_compile_without_a_card(capability: int, target: str) -> None:
    """Few registers, nothing spilled, no fused multiply-add, which `enable_fp_fusion` would make."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compiled_triton.py")
    command = [sys.executable, str(script), str(capability)]
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *kernels, fused = (json.loads(line) for line in done.stdout.splitlines())
    assert len(kernels) == 19
    for kernel in kernels:
        assert kernel["target"] == target
        assert 0 < kernel["REG"] <= MOST_REGISTERS, kernel
        assert (kernel["STACK"], kernel["LOCAL"]) == (0, 0), kernel
        assert kernel["contracted"] == [], kernel
    assert fused == {"kernel": "fused", "fma": True}
