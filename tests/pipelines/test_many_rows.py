"""Loaders of datasets that are too large for all their rows to be held: as small ones are read, to the bit."""

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from torch import Tensor

from pipelines import ImageLoader, PatchLoader
from selfie_data.dataset import opened
from selfie_data.dataset.opened import Dataset, open_dataset

LOADERS = {
    "lanes": lambda place: PatchLoader(place, global_batch_size=8, shuffle="lanes", lanes=4, device="cpu", seed=1),
    "window": lambda place: PatchLoader(place, global_batch_size=8, shuffle=2, device="cpu", seed=1),
    "evaluation": lambda place: ImageLoader(place, global_batch_size=8, evaluation=True, device="cpu"),
    "reference": lambda place: ImageLoader(place, global_batch_size=8, shuffle=2, device="cpu", backend="reference"),
}


def batches_of(make: Callable[[Dataset], PatchLoader], place: Dataset) -> list[bytes]:
    with make(place) as loader:
        parts = (getattr(batch, field.name) for batch in loader for field in fields(batch))
        return [part.numpy().tobytes() for part in parts if isinstance(part, Tensor)]


@pytest.mark.parametrize("encoded", ["raw_shards", "photo_shards"])
@pytest.mark.parametrize("name", LOADERS)
def test_batches_are_those_of_a_dataset_whose_rows_are_held(
    encoded: str, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards: Path = request.getfixturevalue(encoded)
    expected = batches_of(LOADERS[name], open_dataset(shards))
    monkeypatch.setattr(opened, "_ROW_BYTES", 0)
    monkeypatch.setattr(Dataset, "table", None)  # nobody asks for it
    assert batches_of(LOADERS[name], open_dataset(shards)) == expected != []


def test_a_global_shuffle_says_what_it_needs(
    raw_shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opened, "_ROW_BYTES", 0)
    with caplog.at_level(logging.WARNING):
        PatchLoader(raw_shards, global_batch_size=8, device="cpu").close()
    assert "a global shuffle of 50 samples holds the rows of all shards" in caplog.text
