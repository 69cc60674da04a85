"""Positions: how many vectors there are, and which cell gets which."""

import pytest
import torch

from selfie_model import presets
from selfie_model.network.positions import Positions
from tests.selfie_model.memory import small_config


def test_small_images_have_16_vectors() -> None:
    positions = Positions(presets.cifar10())
    assert {name: tuple(value.shape) for name, value in positions.named_parameters()} == {"table": (16, 1024)}


def test_large_images_have_7_rows_and_7_columns() -> None:
    positions = Positions(presets.imagenet224())
    shapes = {name: tuple(value.shape) for name, value in positions.named_parameters()}
    assert shapes == {"row": (7, 1024), "column": (7, 1024)}


@pytest.mark.parametrize("kind", ["table", "row_column"])
def test_vectors_follow_row_major_cells(kind: str) -> None:
    positions = Positions(small_config(positions=kind))
    cells = torch.tensor([[0, 5, 15], [3, 12, 6]])
    vectors = positions(cells)
    assert vectors.shape == (2, 3, 64)
    for index, cell in enumerate(cells.flatten().tolist()):
        row, column = divmod(cell, 4)
        expected = positions.table[cell] if kind == "table" else positions.row[row] + positions.column[column]
        assert torch.equal(vectors.flatten(0, 1)[index], expected)


@pytest.mark.parametrize("kind", ["table", "row_column"])
def test_gradients_repeat_to_the_bit_with_several_threads(kind: str) -> None:
    positions = Positions(small_config(positions=kind))
    cells = torch.randint(0, 16, (512, 16), generator=torch.Generator().manual_seed(0))
    weight = torch.randn(512, 16, 64, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [torch.autograd.grad((positions(cells) * weight).sum(), list(positions.parameters())) for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(gradient, first) for gradient, first in zip(run, runs[0], strict=True))
