"""Operations and bytes of a step are counted as by hand."""

import pytest
import torch

from benchmarks.gpu.sections.roofline import Card, cost, step_of
from benchmarks.gpu.sections.training import FORWARD_GMACS
from benchmarks.gpu.setting import Setting


def test_a_product_and_a_relu_are_counted_as_by_hand() -> None:
    """[8, 16] x [16, 32]: forward one product, backward one, since the input needs no gradient."""
    given = torch.empty(8, 16, device="meta", dtype=torch.bfloat16)
    weight = torch.empty(16, 32, device="meta", dtype=torch.bfloat16, requires_grad=True)
    found = cost(lambda: (given @ weight).relu().sum(), Card(1e12, 1e12))
    product = 2 * 8 * 16 * 32
    assert found.operations == 2 * product
    products = 2 * 2 * (8 * 16 + 16 * 32 + 8 * 32)  # twice, bytes of three matrices
    relu = 2 * 2 * 8 * 32  # in and out
    assert found.bytes_compiled >= products
    assert found.bytes_eager >= found.bytes_compiled + relu
    assert found.seconds_eager > found.seconds_compiled >= max(found.operations, products) / 1e12 / 2


@pytest.mark.parametrize("work", ["selfie-224", "finetune-224"])
def test_the_operations_are_those_that_the_training_section_counts_with(work: str) -> None:
    setting = Setting(device="meta", dry=False, seconds=1, threads=1, batches=1, scratch="", images=None)
    operations = cost(step_of(work, 4, setting)).operations / 4
    assert operations == pytest.approx(3 * 2e9 * FORWARD_GMACS[work], rel=0.02)
