"""A state of what a dataset was: taken where it is asked for, at the start of an epoch, and refused elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import PatchLoader
from pipelines.state import State, StateError
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.extend import extend_dataset
from selfie_data.dataset.opened import Dataset, open_dataset
from tests.selfie_data.changes.folders import pictures, small_dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("follow") / "out")


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def loader_of(dataset: Path | Dataset, **options: object) -> PatchLoader:
    return PatchLoader(dataset, global_batch_size=8, seed=3, device="cpu", patch_size=4, **options)


def state_after(dataset: Path | Dataset, steps: int) -> State:
    with loader_of(dataset) as loader:
        for _, batch in zip(range(steps), loader, strict=False):
            assert len(batch) == 8
        return loader.state_dict()


def test_at_the_start_of_an_epoch_it_is_taken_if_asked_for(out: Path) -> None:
    state = state_after(out, 5)
    assert (state["epoch"], state["step"]) == (1, 0)
    extend_dataset(pictures(12, first=100), out, workers=1)
    drop_samples(out, np.array([3]))
    with loader_of(out) as plain, pytest.raises(StateError, match="its fingerprint is"):
        plain.load_state_dict(state)
    with loader_of(out, follow=True) as loader:
        loader.load_state_dict(state)
        rows = [sample for batch in loader for sample in batch.sample_id.tolist()]
        assert loader.epoch == 1
        assert set(rows) | set(loader.remainder.tolist()) == set(range(52)) - {3}
        assert loader.state_dict()["fingerprint"] == open_dataset(out).fingerprint
    with loader_of(out, follow=True) as fresh:  # the same epoch, whoever goes through it
        fresh.set_epoch(1)
        assert [sample for batch in fresh for sample in batch.sample_id.tolist()] == rows


def test_inside_an_epoch_that_is_finished_first(out: Path) -> None:
    state = state_after(out, 2)
    was = str(state["fingerprint"])
    whole = [batch.sample_id.tolist() for batch in loader_of(out)]
    extend_dataset(pictures(12, first=100), out, workers=1)
    with loader_of(out, follow=True) as loader, pytest.raises(StateError, match="finish epoch 0 with open_dataset"):
        loader.load_state_dict(state)
    with loader_of(open_dataset(out, fingerprint=was)) as before:
        before.load_state_dict(state)
        assert [batch.sample_id.tolist() for batch in before] == whole[2:]
        state = before.state_dict()
    with loader_of(out, follow=True) as loader:
        loader.load_state_dict(state)
        assert sum(len(batch) for batch in loader) == 48


def test_nobody_can_finish_an_epoch_of_purged_images(out: Path) -> None:
    state = state_after(out, 2)
    drop_samples(out, np.array([3]), with_bytes=True)
    with loader_of(out, follow=True) as loader:
        loader.load_state_dict(state)
        assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (1, 0)
        assert 3 not in {sample for batch in loader for sample in batch.sample_id.tolist()}


def test_another_stream_is_refused_all_the_same(out: Path, tmp_path: Path) -> None:
    state = state_after(out, 5)
    extend_dataset(pictures(12, first=100), out, workers=1)
    with loader_of(out, follow=True) as loader, pytest.raises(StateError, match="its seed is 9"):
        loader.load_state_dict({**state, "seed": 9})
    other = small_dataset(tmp_path / "other", count=30)
    with loader_of(other, follow=True) as loader, pytest.raises(StateError, match="its fingerprint is"):
        loader.load_state_dict(state)
