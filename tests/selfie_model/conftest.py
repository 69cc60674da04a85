"""For all tests of the model: two threads, whatever the machine has, so that the suite shares it."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(2)
