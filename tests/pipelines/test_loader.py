"""What the loaders promise, each promise a test: who sees what, in which order, as which tensors."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipelines
from pipelines.batch import PatchBatch
from pipelines.sampling import draws, order
from pipelines.sampling.grid import patchify
from pipelines.sampling.order import global_shuffle
from pipelines.sampling.selection import patch_order
from tests.pipelines.conftest import MakeDataset, random_images
from tests.pipelines.streams import ids_of, images, patches
from tests.twins.draws import flips


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=st.integers(1, 8),
    samples=st.integers(8, 50),
    batch=st.integers(8, 20),
    shuffle=st.sampled_from(["global", "lanes", 1, 2]),
    seed=st.integers(0, 2**64 - 1),
)
def test_an_epoch_sees_every_id_once_but_the_remainder(
    raw_shards: Path, world: int, samples: int, batch: int, shuffle: str | int, seed: int
) -> None:
    batch = min(batch, samples)
    subset = np.arange(50)[-samples:]
    options = {"batch": batch, "seed": seed, "subset": subset, "shuffle": shuffle}
    loaders = [patches(raw_shards, rank=rank, world_size=world, **options) for rank in range(world)]
    epochs = [list(loader) for loader in loaders]
    assert {len(epoch) for epoch in epochs} == {samples // batch} == {len(loader) for loader in loaders}
    seen = [sample for epoch in epochs for sample in ids_of(epoch)]
    assert sorted([*seen, *loaders[0].remainder.tolist()]) == subset.tolist()
    one = ids_of(patches(raw_shards, **options))
    together = [sample for step in zip(*epochs, strict=True) for sample in ids_of(step)]
    assert together == one  # the global stream does not depend on ranks


@pytest.mark.parametrize("world", [1, 3, 8])
def test_an_evaluation_sees_every_id_once_in_order_and_pads_the_end(raw_shards: Path, world: int) -> None:
    loaders = [images(raw_shards, rank=rank, world_size=world, evaluation=True, batch=20) for rank in range(world)]
    epochs = [list(loader) for loader in loaders]
    assert {len(epoch) for epoch in epochs} == {3}
    together = [sample for step in zip(*epochs, strict=True) for sample in ids_of(step)]
    assert together == [*range(50), *[-1] * 10]
    labels = [label for step in zip(*epochs, strict=True) for batch in step for label in batch.label.tolist()]
    assert labels == [*(number % 4 for number in range(50)), *[-1] * 10]
    assert not any(loader.remainder.size for loader in loaders)


def test_512_over_3_ranks(make_dataset: MakeDataset) -> None:
    shards = make_dataset(samples=520, shards=1)
    epochs = [list(patches(shards, batch=512, rank=rank, world_size=3)) for rank in range(3)]
    assert [[len(batch) for batch in epoch] for epoch in epochs] == [[170], [171], [171]]


def test_the_remainder_changes_with_the_epoch(raw_shards: Path) -> None:
    loader = patches(raw_shards)
    first = loader.remainder
    loader.set_epoch(1)
    assert len(first) == len(loader.remainder) == 2
    assert first.tolist() != loader.remainder.tolist()
    seen = ids_of(loader)
    assert sorted([*seen, *loader.remainder.tolist()]) == list(range(50))  # still of the epoch that just ended


def test_batches_equal_their_published_definition(raw_shards: Path) -> None:
    """Everything about an epoch in a few lines of NumPy."""
    seed, epoch, size = 11, 2, 16
    loader = patches(raw_shards, seed=seed)
    loader.set_epoch(epoch)
    pictures = random_images(50)
    for step, batch in enumerate(loader):
        ids = global_shuffle(50, seed, epoch)(np.arange(step * size, (step + 1) * size))
        flipped = np.where(flips(seed, epoch, ids)[:, None, None, None], pictures[ids][:, :, ::-1], pictures[ids])
        cells = patch_order(seed, epoch, ids, 16)
        expected = np.take_along_axis(patchify(flipped, 8), cells[:, :, None, None, None], axis=1)
        assert batch.sample_id.tolist() == ids.tolist()
        assert batch.position.tolist() == cells.tolist()
        assert (batch.patches.numpy() == expected).all()
        hidden = np.zeros((size, 16), bool)
        np.put_along_axis(hidden, cells[:, 12:], True, axis=1)
        assert (batch.mask.numpy() == hidden).all()


def test_a_samples_tensors_do_not_depend_on_the_batch_it_is_in(photo_shards: Path) -> None:
    reference = {}
    for options in (
        {"batch": 30},
        {"batch": 7, "prefetch": 1},
        {"batch": 5, "prefetch": 4, "threads": 1, "shuffle": 1},
        {"batch": 9, "rank": 1, "world_size": 2, "verify": "always"},
        {"batch": 4, "subset": range(3, 20)},
    ):
        for batch in patches(photo_shards, seed=5, **options):
            for row, sample in enumerate(batch.sample_id.tolist()):
                parts = (batch.patches[row], batch.position[row], batch.mask[row])
                for ours, first in zip(parts, reference.setdefault(sample, parts), strict=True):
                    assert torch.equal(ours, first)
    assert len(reference) == 30


def test_golden_batch(raw_shards: Path) -> None:
    """Breaking this changes the stream of every user: raise `draws.VERSION` or `order.VERSION` with it."""
    loader = patches(raw_shards, seed=1906)
    loader.set_epoch(2940)
    digest = hashlib.sha256()
    for batch in loader:
        for tensor in (batch.sample_id, batch.position, batch.mask):
            digest.update(tensor.numpy().tobytes())
    assert (draws.VERSION, order.VERSION) == (1, 1)
    assert digest.hexdigest() == "a5d70df2436a20f1d769b493b625c81794837d1627498ee58f1b050507a2a331"


def test_epochs_and_seeds_differ(raw_shards: Path) -> None:
    loader = patches(raw_shards, seed=1)
    first, second = list(loader), list(loader)
    other = list(patches(raw_shards, seed=2))
    assert ids_of(first) != ids_of(second)
    assert ids_of(first) != ids_of(other)
    everything = {sample: row for batch in first for sample, row in zip(ids_of([batch]), batch.position, strict=True)}
    again = {sample: row for batch in second for sample, row in zip(ids_of([batch]), batch.position, strict=True)}
    assert any(not torch.equal(everything[sample], again[sample]) for sample in everything.keys() & again.keys())


@pytest.mark.parametrize("make", [patches, images])
def test_photographs_of_any_size(photo_shards: Path, make: type) -> None:
    for evaluation in (False, True):
        for batch in make(photo_shards, batch=10, evaluation=evaluation):
            tensor = batch.patches if isinstance(batch, PatchBatch) else batch.image
            assert tensor.shape[0] == 10
            assert tensor.float().std() > 10


def test_unlabelled_sets_work_where_no_label_is_needed(make_dataset: MakeDataset) -> None:
    shards = make_dataset(labelled=False)
    assert len(list(patches(shards))) == 3
    assert all((batch.label == -1).all() for batch in images(shards))
    assert patches(shards).class_names == ()


def test_importing_the_package_imports_neither_torch_nor_dali() -> None:
    script = "import sys, pipelines; print(sorted({'torch', 'nvidia', 'numba'} & set(sys.modules)), dir(pipelines)[:2])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] ['ImageLoader', 'PatchLoader']\n"
    with pytest.raises(AttributeError, match="no attribute 'Loader'"):
        pipelines.Loader  # noqa: B018
