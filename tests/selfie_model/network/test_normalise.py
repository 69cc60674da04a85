"""Bytes become what a loader's float output is, and under autocast what the first layer would cast that to."""

import pytest
import torch

from selfie_model.network.normalise import Normalise

EVERY = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).repeat(1, 1, 3)


def normalise() -> Normalise:
    module = Normalise()
    module.set([0.0171, 0.0175, 0.0174], [-2.118, -2.036, -1.804])
    return module


def test_bytes_become_float32_in_two_roundings() -> None:
    module = normalise()
    values = module(EVERY)
    assert values.dtype == torch.float32
    assert torch.equal(values, EVERY.float() * module.scale + module.bias)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_bytes_become_its_dtype_at_once(dtype: torch.dtype) -> None:
    module = normalise()
    wanted = module(EVERY).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = module(EVERY)
    assert found.dtype == dtype
    assert torch.equal(found, wanted)


def test_floats_are_left_as_they_are_but_for_16_bits_without_autocast() -> None:
    module, floats = normalise(), EVERY.to(torch.bfloat16)
    assert module(floats).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(floats) is floats
