"""Excluded samples are in no order, in whatever shards and parts they lie; each other one is there exactly once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.options import PatchLoaderOptions
from pipelines.parts import resolve_parts
from pipelines.sampling.order import StepOrder
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.extend import extend_dataset
from tests.selfie_data.changes.folders import pictures, small_dataset

SAMPLES = 52


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """52 pictures in shards of 10 at most, in two parts."""
    out = small_dataset(tmp_path_factory.mktemp("live") / "out")
    extend_dataset(pictures(12, first=100), out, workers=1)
    return out


@settings(max_examples=20, deadline=None)
@given(
    data=st.data(),
    shuffle=st.sampled_from(["global", "lanes", 1, 2, 5]),
    evaluation=st.booleans(),
    world=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_each_live_sample_is_there_once(
    grown: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, shuffle: str | int, evaluation: bool,
    world: int, epoch: int,
) -> None:  # fmt: skip
    excluded = data.draw(st.sets(st.integers(0, SAMPLES - 1), max_size=SAMPLES - 8))
    out = tmp_path_factory.mktemp("set") / "out"
    _copy(grown, out)
    drop_samples(out, np.array(sorted(excluded), np.int64))
    live = set(range(SAMPLES)) - excluded
    rows, left_out = list[int](), set[int]()
    for rank in range(world):
        options = PatchLoaderOptions(
            out, global_batch_size=8, seed=3, rank=rank, world_size=world, device="cpu", evaluation=evaluation,
            shuffle=shuffle, lanes=4 if shuffle == "lanes" else None,
        )  # fmt: skip
        parts = resolve_parts(options, preset="pretrain")
        order = StepOrder(parts.order(epoch), parts.partition)
        for step in range(parts.partition.steps):
            rows += parts.subset.sample_ids(order.step(step)).tolist()
        beyond = np.arange(parts.partition.used, parts.partition.samples)
        left_out = set(parts.subset.sample_ids(parts.order(epoch)(beyond)).tolist())
    assert len(rows) == len(set(rows))
    assert set(rows) | left_out == live
    assert not set(rows) & left_out


def _copy(source: Path, out: Path) -> None:
    """Links the files: a drop replaces those that it changes."""
    for path in source.rglob("*"):
        target = out / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
