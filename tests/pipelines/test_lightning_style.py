"""The protocol that Lightning and Accelerate use on a loader that is no `DataLoader`, without installing them.

Lightning 2 (`fit_loop.py`, `combined_loader.py`, `apply_func.py`): `len`, one `iter` an epoch, `state_dict` and
`load_state_dict` of loaders that have them, `batch.to(device)`; it sets no epoch on other loaders and may stop an epoch
early. Accelerate (`Accelerator.prepare`) hands back what it does not know; the loop is the user's, with `set_epoch`.
"""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest
import torch
from torch.utils.data import DataLoader

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import PatchBatch
from selfie_data.dataset.opened import open_dataset


@runtime_checkable
class Stateful(Protocol):
    """As `torchdata.stateful_dataloader.stateful.Stateful`, `lightning.fabric.utilities.types._Stateful`."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: dict[str, object]) -> None: ...


def make(shards: Path) -> PatchLoader:
    return PatchLoader(shards, global_batch_size=10, device="cpu", backend="reference", seed=6)


class Trainer:
    """What Lightning's fit loop does with a training loader: all it knows is the protocol."""

    def __init__(self, loader: Iterable[PatchBatch], *, limit: int | None = None) -> None:
        self.loader = loader
        self.length = min(len(loader), limit or len(loader))  # type: ignore[arg-type]
        self.seen: list[list[int]] = []

    def fit(self, epochs: int, *, stop_after: int | None = None) -> dict[str, object]:
        for _ in range(epochs):
            for batch in itertools.islice(iter(self.loader), self.length):
                self.seen.append(batch.to(torch.device("cpu")).sample_id.tolist())
                if len(self.seen) == stop_after:
                    return self.checkpoint()
        return self.checkpoint()

    def checkpoint(self) -> dict[str, object]:
        assert isinstance(self.loader, Stateful)
        buffer = io.BytesIO()
        torch.save({"loader": self.loader.state_dict()}, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)  # type: ignore[no-any-return]


def test_epochs_differ_though_nobody_sets_them(raw_shards: Path) -> None:
    trainer = Trainer(make(raw_shards))
    trainer.fit(2)
    first, second = trainer.seen[:5], trainer.seen[5:]
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(50))


def test_an_iterator_that_nothing_was_taken_of_counts_for_nothing(raw_shards: Path) -> None:
    """Lightning makes one to see whether the loader can be iterated, before it makes those it uses."""
    epochs = [[batch.sample_id.tolist() for batch in loader] for loader in [make(raw_shards)] for _ in range(2)]
    loader = make(raw_shards)
    for wanted in epochs:
        iter(loader)
        left = iter(loader)
        assert loader.state_dict()["step"] == 0
        assert [batch.sample_id.tolist() for batch in loader] == wanted
        with pytest.raises(RuntimeError, match="may not go on"):
            next(left)
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "step": 3})
    iter(loader)
    assert [batch.sample_id.tolist() for batch in loader] == epochs[0][3:]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batch_size", [2, None], ids=["batched", "unbatched"])
@pytest.mark.parametrize("wrapped", [make, open_dataset], ids=["loader", "dataset"])
def test_a_dataloader_around_it_says_what_to_do_instead(
    wrapped: Callable[[Path], Any], batch_size: int | None, workers: int, raw_shards: Path
) -> None:
    loader: DataLoader[Any] = DataLoader(wrapped(raw_shards), batch_size=batch_size, num_workers=workers)
    with pytest.raises(TypeError, match=r"iterate .* torch\.utils\.data\.DataLoader"):
        next(iter(loader))


def test_epochs_that_are_stopped_early_differ_too(raw_shards: Path) -> None:
    trainer = Trainer(make(raw_shards), limit=2)
    trainer.fit(3)
    assert len({tuple(map(tuple, trainer.seen[start : start + 2])) for start in (0, 2, 4)}) == 3


def test_a_checkpoint_in_an_epoch_goes_on_at_the_next_batch(raw_shards: Path) -> None:
    whole = Trainer(make(raw_shards))
    whole.fit(2)
    state = Trainer(make(raw_shards)).fit(2, stop_after=3)
    loader = make(raw_shards)
    loader.load_state_dict(state["loader"])  # type: ignore[arg-type]
    resumed = Trainer(loader)
    resumed.fit(2)
    assert resumed.seen == whole.seen[3:]


def test_the_loop_of_accelerate(raw_shards: Path) -> None:
    loader = make(raw_shards)
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([batch.sample_id.tolist() for batch in loader])
    unset = make(raw_shards)
    assert epochs == [[batch.sample_id.tolist() for batch in unset] for _ in range(2)]


def test_training_and_validation_take_turns(raw_shards: Path) -> None:
    """A sanity check of two validation batches first, then validation in the middle of each epoch."""
    validation = ImageLoader(raw_shards, global_batch_size=20, device="cpu", backend="reference", evaluation=True)
    training = make(raw_shards)
    assert len(list(itertools.islice(validation, 2))) == 2
    for _ in range(2):
        for step, _ in enumerate(training):
            if step == 2:
                seen = torch.cat([batch.sample_id for batch in validation])
                assert seen[seen >= 0].tolist() == list(range(50))
        assert step == 4


def test_loaders_are_iterables_with_a_length_not_iterators(raw_shards: Path) -> None:
    loader = make(raw_shards)
    assert len(loader) == 5
    assert not isinstance(loader, Iterator)
    assert isinstance(loader, Iterable)
    assert not isinstance(loader, torch.utils.data.DataLoader)
    assert iter(loader) is not iter(loader)


def test_batches_move_as_a_whole(raw_shards: Path) -> None:
    batch = next(iter(make(raw_shards)))
    moved = batch.to("meta")
    assert {moved.patches.device.type, moved.position.device.type, moved.mask.device.type} == {"meta"}
    assert batch.to("cpu", non_blocking=True).patches is batch.patches
