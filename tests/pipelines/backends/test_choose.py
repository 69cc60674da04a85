"""Which backend and device are taken, and what is said about it."""

import logging
from pathlib import Path

import pytest
import torch

from pipelines import PatchLoader


def test_a_device_that_is_not_there_is_refused(raw_shards: Path) -> None:
    for device in ("mps", "gpu", None):
        with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got"):
            PatchLoader(raw_shards, global_batch_size=8, device=device)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            PatchLoader(raw_shards, global_batch_size=8, device="cuda")


def test_the_slow_way_is_announced(
    raw_shards: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.backends import choose as backends

    monkeypatch.setitem(backends._CLASSES, "cpu", ("pipelines.not_there", "ShardBackend"))
    with caplog.at_level(logging.WARNING, "pipelines"):
        loader = PatchLoader(raw_shards, global_batch_size=10, device="cpu")
    assert "slower way" in caplog.text
    assert len(list(loader)) == 5
    with pytest.raises(ValueError, match="'cpu' cannot be used here"):
        PatchLoader(raw_shards, global_batch_size=10, device="cpu", backend="fused")
