"""The compiled gather against patchify and indexing in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.batch_plan import Dtype, OutputSpec
from pipelines.kernels.gather import factors_of, gather, hide_cells, levels_of
from pipelines.normalise import Normalisation, normalise
from pipelines.sampling.grid import patchify

SCALE, BIAS = np.array([0.01, 0.017, 0.031], np.float32), np.array([-1.3, 0.25, -2.0], np.float32)


KERNEL_DTYPE = {"uint8": np.uint8, "float32": np.float32, "float16": np.uint16, "bfloat16": np.uint16}


def run(
    image: NDArray[np.uint8], patch: int, cells: NDArray[np.int64], hidden: NDArray[np.bool_], mirror: bool,
    wanted: OutputSpec, out: NDArray[Any],
) -> None:  # fmt: skip
    """Gathers one image as row 1 of a batch of three."""
    size, first = len(image), 8  # a place that words begin at
    source = np.concatenate((np.zeros(first, np.uint8), image.reshape(-1)))
    square = np.zeros(image.size, np.uint8)
    cell = out.reshape(-1) if out.dtype == np.uint8 else np.zeros(3 * patch * patch, np.uint8)
    starts, flip = np.array([first]), np.array([not mirror, mirror, not mirror])
    three, none = np.broadcast_to(cells, (3, len(cells))).copy(), hidden[:0]
    hidden = np.concatenate((hidden, hidden, hidden)) if hidden.size else none
    gather(
        source, starts, flip, size, patch, three, hidden, factors_of(wanted), levels_of(wanted), 1, 2, square, cell,
        out.reshape(-1),
    )  # fmt: skip


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
    hidden = rng.random((1, len(cells))) < 0.3 if seed % 2 else np.empty((0, 0), np.bool_)
    out = np.full((3, len(cells) * patch * patch * 3), 7, KERNEL_DTYPE[dtype])
    run(image, patch, cells, hidden, mirror, spec(dtype), out)

    shown = image[:, ::-1] if mirror else image
    chosen = patchify(shown[None], patch)[0][cells]
    expected = torch.from_numpy(chosen.copy())
    if dtype != "uint8":
        expected = torch.from_numpy(normalise(chosen, Normalisation(SCALE, BIAS))).to(spec(dtype).torch_dtype)
    if hidden.size:
        expected[torch.from_numpy(hidden[0])] = 0
    actual = torch.from_numpy(out[1].copy())
    assert torch.equal(actual.view(expected.dtype).view(expected.shape), expected)
    assert (out[[0, 2]] == 7).all()


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
    wanted = OutputSpec(image_size=16, batch_size=1, dtype=dtype, scale=scale, bias=bias)
    rows = np.empty((3, pixels.size), KERNEL_DTYPE[dtype])
    run(pixels, 16, np.zeros(1, np.int64), np.empty((0, 0), np.bool_), False, wanted, rows)
    out = rows[1]
    expected = torch.from_numpy(normalise(pixels, Normalisation(scale, bias))).to(spec(dtype).torch_dtype)
    bits = torch.int32 if dtype == "float32" else torch.int16
    np.testing.assert_array_equal(out.view(f"i{out.itemsize}"), expected.view(bits).reshape(-1).numpy())


@pytest.mark.parametrize(("size", "patch"), [(12, 4), (32, 8), (9, 3)])
def test_hidden_cells_are_the_masks(size: int, patch: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (size, size, 3), dtype=np.uint8)
    mask = rng.random((size // patch) ** 2) < 0.5
    flat = image.reshape(-1).copy()
    hide_cells(flat, size, patch, mask[None], 0, 1)
    cells = patchify(image[None], patch)
    cells[0, mask] = 0
    np.testing.assert_array_equal(patchify(flat.reshape(1, size, size, 3), patch), cells)
