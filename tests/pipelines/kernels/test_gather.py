"""The compiled gather against patchify and indexing in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.backends.reference import window_of
from pipelines.batch_plan import Dtype, OutputSpec
from pipelines.kernels.gather import KERNEL_DTYPE, blank_cells, factors_of, gather
from pipelines.kernels.render import cut_window
from pipelines.normalise import Normalisation, normalise
from pipelines.sampling.grid import patchify
from selfie_data.kernels.passes_kernel import SLACK

SCALE, BIAS = np.array([0.01, 0.017, 0.031], np.float32), np.array([-1.3, 0.25, -2.0], np.float32)


def spec(dtype: Dtype) -> OutputSpec:
    return OutputSpec(image_size=32, batch_size=1, dtype=dtype, scale=SCALE, bias=BIAS)


@given(
    patch=st.integers(1, 12),
    side=st.integers(1, 6),
    mirror=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32", "float16", "bfloat16"]),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
@settings(max_examples=120, deadline=None)
def test_any_geometry_equals_numpy(
    patch: int, side: int, mirror: bool, dtype: Dtype, seed: int, data: st.DataObject
) -> None:
    rng, size = np.random.default_rng(seed), patch * side
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    cells = np.array(data.draw(st.lists(st.integers(0, side * side - 1), min_size=1, max_size=20)))
    hole = rng.random(len(cells)) < 0.3 if seed % 2 else np.empty(0, np.bool_)
    guard, values = 5, len(cells) * patch * patch * 3
    out = np.full(values + 2 * guard, 7, KERNEL_DTYPE[dtype])
    source = np.concatenate((np.zeros(3, np.uint8), image.reshape(-1), np.zeros(SLACK, np.uint8)))
    gather(source, 3, size, mirror, patch, cells, hole, factors_of(spec(dtype)), out, guard)

    shown = image[:, ::-1] if mirror else image
    chosen = patchify(shown[None], patch)[0][cells]
    expected = torch.from_numpy(chosen.copy())
    if dtype != "uint8":
        expected = torch.from_numpy(normalise(chosen, Normalisation(SCALE, BIAS))).to(spec(dtype).torch_dtype)
    if hole.size:
        expected[torch.from_numpy(hole)] = 0
    actual = torch.from_numpy(out[guard : guard + values].copy())
    assert torch.equal(actual.view(expected.dtype).view(expected.shape), expected)
    assert (out[:guard] == 7).all()
    assert (out[-guard:] == 7).all()


@given(
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    exponents=st.tuples(st.integers(-45, 20), st.integers(-45, 20)),
    seed=st.integers(0, 1_000_000),
)
@settings(max_examples=300, deadline=None)
def test_values_are_rounded_as_pytorch_rounds_them(dtype: Dtype, exponents: tuple[int, int], seed: int) -> None:
    """From below the smallest float16 to beyond the largest, with many halfway cases where few bits are drawn."""
    rng = np.random.default_rng(seed)
    scale, bias = (
        np.ldexp(rng.integers(-(1 << bits), 1 << bits, 3), exponent - bits).astype(np.float32)
        for bits, exponent in zip(rng.integers(1, 20, 2).tolist(), exponents, strict=True)
    )
    pixels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    factors = factors_of(OutputSpec(image_size=16, batch_size=1, dtype=dtype, scale=scale, bias=bias))
    out = np.empty(pixels.size, KERNEL_DTYPE[dtype])
    gather(pixels.reshape(-1), 0, 16, False, 16, np.zeros(1, np.int64), np.empty(0, np.bool_), factors, out, 0)
    expected = torch.from_numpy(normalise(pixels, Normalisation(scale, bias))).to(spec(dtype).torch_dtype)
    bits = torch.int32 if dtype == "float32" else torch.int16
    np.testing.assert_array_equal(out.view(f"i{out.itemsize}"), expected.view(bits).reshape(-1).numpy())


@pytest.mark.parametrize(("size", "patch"), [(12, 4), (32, 8), (9, 3)])
def test_blanked_cells_are_the_masks(size: int, patch: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (size, size, 3), dtype=np.uint8)
    mask = rng.random((size // patch) ** 2) < 0.5
    flat = image.reshape(-1).copy()
    blank_cells(flat, 0, size, patch, mask)
    cells = patchify(image[None], patch)
    cells[0, mask] = 0
    np.testing.assert_array_equal(patchify(flat.reshape(1, size, size, 3), patch), cells)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    top=st.integers(-25, 25),
    left=st.integers(-25, 25),
    size=st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_a_window_may_overhang_on_any_side(height: int, width: int, top: int, left: int, size: int) -> None:
    image = np.random.default_rng(1).integers(1, 256, (height + 3, width + 2, 3), dtype=np.uint8)
    result = np.full(3 * size * size + SLACK, 9, np.uint8)
    crop, window = np.array((2, 1, height, width)), np.array((top, left))
    cut_window(image.reshape(-1), 0, 3 * (width + 2), crop, window, size, result)
    expected = window_of(image[2 : 2 + height, 1 : 1 + width], top, left, size)
    np.testing.assert_array_equal(result[: 3 * size * size].reshape(size, size, 3), expected)
