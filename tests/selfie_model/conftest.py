"""For all tests of the model: one thread. The models are so small that two only wait for each other, and on a busy
machine that waiting makes the suite ten times slower."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
