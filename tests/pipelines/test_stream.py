"""Batches outlive the loader's next ones, and a loader that is dropped is gone."""

import gc
import weakref
from pathlib import Path

import torch

from tests.pipelines.streams import patches


def test_batches_that_are_kept_are_never_overwritten(raw_shards: Path) -> None:
    loader = patches(raw_shards, batch=10)
    kept = [batch for _ in range(4) for batch in loader]
    copies = [batch.patches.clone() for batch in kept]
    views = [batch.patches[3:4, 1] for batch in kept]
    view_copies = [view.clone() for view in views]
    del kept
    list(loader)
    assert all(torch.equal(view, copy) for view, copy in zip(views, view_copies, strict=True))
    assert len(copies) == 20


def test_a_loader_dropped_without_closing_is_collected(raw_shards: Path) -> None:
    loader = patches(raw_shards)
    next(iter(loader))
    reference = weakref.ref(loader)
    backend = weakref.ref(loader._under_way.backend)
    del loader
    gc.collect()
    assert reference() is None
    assert backend() is None
