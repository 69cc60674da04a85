"""An interrupted run and an uninterrupted one see the same ids and the same tensors, at any step and world size."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.selection import block_targets
from pipelines.state import StateError
from tests.pipelines.conftest import MakeDataset

STEPS = 5  # 50 samples in batches of 10


def make(shards: Path, *, batch: int = 10, **options: object) -> PatchLoader:
    return PatchLoader(shards, global_batch_size=batch, backend="reference", device="cpu", seed=4, **options)


def one_epoch(loader: PatchLoader) -> list[tuple[torch.Tensor, ...]]:
    return [(batch.sample_id, batch.patches, batch.position, batch.mask) for batch in loader]


def joined(steps: list[tuple[list[torch.Tensor], ...]]) -> list[list[torch.Tensor]]:
    """Puts the slices of the ranks together, step by step."""
    return [[torch.cat(parts) for parts in zip(*slices, strict=True)] for slices in steps]


def assert_equal_steps(left: list[list[torch.Tensor]], right: list[list[torch.Tensor]]) -> None:
    assert len(left) == len(right)
    for ours, theirs in zip(left, right, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shuffle", ["global", "lanes", 2])
@pytest.mark.parametrize("worlds", [(1, 1), (1, 3), (3, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("step", [0, 1, 2, STEPS - 1, STEPS])
def test_resume_is_exact(raw_shards: Path, step: int, worlds: tuple[int, int], shuffle: str | int) -> None:
    """Two epochs, interrupted in the first after `step` batches on worlds[0] ranks, gone on with on worlds[1]."""
    whole_loader = make(raw_shards, shuffle=shuffle)
    whole = joined([[one] for one in [*one_epoch(whole_loader), *one_epoch(whole_loader)]])
    states = []
    for rank in range(worlds[0]):
        loader = make(raw_shards, rank=rank, world_size=worlds[0], shuffle=shuffle)
        batches = iter(loader)
        for _ in range(step):
            next(batches)
        states.append(json.loads(json.dumps(loader.state_dict())))
    assert all(state == states[0] for state in states)
    rest = []
    for rank in range(worlds[1]):
        loader = make(raw_shards, rank=rank, world_size=worlds[1], shuffle=shuffle, prefetch=3)
        loader.load_state_dict(states[0])
        epochs = 1 if step == STEPS else 2
        rest.append([batch for _ in range(epochs) for batch in one_epoch(loader)])
    assert_equal_steps(joined(list(zip(*rest, strict=True))), whole[step:])


def test_resume_through_decoding_and_resizing(photo_shards: Path) -> None:
    whole = one_epoch(make(photo_shards))
    loader = make(photo_shards)
    next(iter(loader))
    resumed = make(photo_shards)
    resumed.load_state_dict(loader.state_dict())
    assert_equal_steps([list(step) for step in one_epoch(resumed)], [list(step) for step in whole[1:]])


def test_the_state_counts_batches_handed_out_not_those_under_way(raw_shards: Path) -> None:
    loader = make(raw_shards, prefetch=4)
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (0, 0)
    for expected, _ in enumerate(loader, 1):
        state = loader.state_dict()
        assert (state["epoch"], state["step"]) == ((0, expected) if expected < STEPS else (1, 0))
        assert loader.epoch == 0
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (1, 0)


def test_a_loaded_step_survives_the_set_epoch_of_the_usual_loop(raw_shards: Path) -> None:
    whole = one_epoch(make(raw_shards))
    loader = make(raw_shards)
    loader.load_state_dict({**loader.state_dict(), "step": 3})
    loader.set_epoch(0)  # for epoch in range(first, last): loader.set_epoch(epoch)
    assert len(loader) == STEPS
    assert_equal_steps([list(one) for one in one_epoch(loader)], [list(one) for one in whole[3:]])
    loader.set_epoch(0)
    assert len(one_epoch(loader)) == STEPS


def test_epochs_follow_each_other_and_can_be_set(raw_shards: Path) -> None:
    loader = make(raw_shards)
    epochs = [[ids.tolist() for ids, *_ in one_epoch(loader)] for _ in range(3)]
    assert loader.epoch == 2
    for epoch in (2, 0, 1):
        loader.set_epoch(epoch)
        assert loader.epoch == epoch
        assert [ids.tolist() for ids, *_ in one_epoch(loader)] == epochs[epoch]
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match="epoch must be"):
            loader.set_epoch(wrong)


def test_after_a_break_the_next_epoch_begins(raw_shards: Path) -> None:
    loader = make(raw_shards)
    for _ in loader:
        break
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (0, 1)
    again = make(raw_shards)
    again.set_epoch(1)
    assert_equal_steps([list(one) for one in one_epoch(loader)], [list(one) for one in one_epoch(again)])


@pytest.mark.parametrize("name", ["fingerprint", "subset", "seed", "global_batch_size", "order", "sampling"])
def test_another_stream_is_refused_with_the_two_values_named(
    raw_shards: Path, make_dataset: MakeDataset, name: str
) -> None:
    theirs = {
        "fingerprint": lambda: make(make_dataset(seed=1)),
        "subset": lambda: make(raw_shards, subset=range(40)),
        "seed": lambda: PatchLoader(raw_shards, global_batch_size=10, seed=5, backend="reference", device="cpu"),
        "global_batch_size": lambda: make(raw_shards, batch=5),
        "order": lambda: make(raw_shards, shuffle="lanes"),
        "sampling": lambda: make(raw_shards, context=8, target=8),
    }[name]()
    ours = make(raw_shards)
    before = ours.state_dict()
    with pytest.raises(StateError, match=f"its {name} is") as error:
        ours.load_state_dict(theirs.state_dict())
    assert repr(theirs.state_dict()[name]) in str(error.value)
    assert repr(before[name]) in str(error.value)
    assert ours.state_dict() == before


def test_a_state_of_another_version_or_kind_of_loader_is_refused(raw_shards: Path) -> None:
    loader = make(raw_shards)
    with pytest.raises(StateError, match="its versions is 'order 0"):
        loader.load_state_dict({**loader.state_dict(), "versions": "order 0"})
    images = ImageLoader(raw_shards, global_batch_size=10, backend="reference", device="cpu", seed=4)
    with pytest.raises(StateError, match="its sampling is"):
        images.load_state_dict(loader.state_dict())


def test_what_does_not_change_the_stream_may_change_on_resume(raw_shards: Path) -> None:
    state = make(raw_shards).state_dict()
    other = make(raw_shards, dtype="float32", verify="always", prefetch=1, threads=1, whole_image=True)
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_evaluations_resume_too(raw_shards: Path) -> None:
    def loader() -> ImageLoader:
        return ImageLoader(raw_shards, global_batch_size=20, backend="reference", device="cpu", evaluation=True)

    first, second = loader(), loader()
    batches = iter(first)
    next(batches)
    second.load_state_dict(first.state_dict())
    rest = [batch.sample_id.tolist() for batch in second]
    assert np.concatenate(rest).tolist() == [*range(20, 50), *[-1] * 10]


def test_numpy_integers_do_not_stay_in_states(raw_shards: Path) -> None:
    loader = PatchLoader(
        raw_shards, global_batch_size=np.int64(10), seed=np.uint64(4), backend="reference", device="cpu"
    )
    loader.set_epoch(np.int32(3))
    state = loader.state_dict()
    assert {type(value) for value in state.values()} == {int, str}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    make(raw_shards).load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("epoch", [-1, 1 << 32, 1.5, "1", None, True], ids=repr)
def test_no_epoch_is_refused(raw_shards: Path, epoch: object) -> None:
    with pytest.raises(ValueError, match="an epoch must be"):
        make(raw_shards).set_epoch(epoch)


def test_blocks_of_another_shape_are_another_stream(raw_shards: Path) -> None:
    square, row = (
        make(raw_shards, context=8, target=4, selection=block_targets(context=8, height=height, width=4 // height))
        for height in (2, 1)
    )
    with pytest.raises(StateError, match=r"height=2, width=2.* this loader's .*height=1, width=4"):
        row.load_state_dict(square.state_dict())


def test_an_augmentation_in_other_types_is_the_same_stream(raw_shards: Path) -> None:
    same = [
        make(raw_shards, augment=Augmentation(flip=True, crop_area=area)).state_dict()
        for area in ((0.5, 1.0), [0.5, 1], np.array([0.5, 1.0]))
    ]
    assert same[0] == same[1] == same[2]


def test_a_running_iteration_does_not_go_on_after_a_state_is_loaded(raw_shards: Path) -> None:
    loader = make(raw_shards)
    running = iter(loader)
    next(running)
    loader.load_state_dict({**loader.state_dict(), "step": 3})
    with pytest.raises(RuntimeError, match="a state was loaded"):
        next(running)
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (0, 3)
    assert len(one_epoch(loader)) == STEPS - 3


@pytest.mark.parametrize("kind", [PatchLoader, ImageLoader])
def test_a_running_iteration_does_not_go_on_after_an_epoch_is_set(
    raw_shards: Path, kind: type[PatchLoader | ImageLoader]
) -> None:
    options = {"global_batch_size": 10, "backend": "reference", "device": "cpu", "seed": 4}
    with kind(raw_shards, **options) as loader, kind(raw_shards, **options) as other:
        other.set_epoch(7)
        expected = [batch.sample_id.tolist() for batch in other]
        running = iter(loader)
        next(running)
        loader.set_epoch(7)
        with pytest.raises(RuntimeError, match="an epoch was set"):
            next(running)
        assert (loader.epoch, loader.state_dict()["epoch"], loader.state_dict()["step"]) == (7, 7, 0)
        assert [batch.sample_id.tolist() for batch in loader] == expected


def test_after_the_last_batch_the_next_epoch_may_be_set_inside_the_loop(raw_shards: Path) -> None:
    loader = make(raw_shards)
    for number, _ in enumerate(loader, 1):
        if number == STEPS:
            loader.set_epoch(3)
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (3, 0)
    assert len(one_epoch(loader)) == STEPS
    assert loader.epoch == 3


WRITTEN_BEFORE = {
    "subset": "all",
    "samples": 50,
    "seed": 4,
    "global_batch_size": 16,
    "order": "global",
    "sampling": "Augmentation(flip=True, crop_area=None, padding=0), patches of 8 px, 8 context + 4 target, skip, "
    "pipelines.draws.block_targets(context=8, height=2, width=2)",
    "versions": "order 1, permutation 1, sampling 1",
    "epoch": 0,
    "step": 2,
}


def test_a_state_written_when_block_targets_stood_in_another_module_still_resumes(raw_shards: Path) -> None:
    rule = block_targets(context=8, height=2, width=2)
    whole = one_epoch(make(raw_shards, batch=16, context=8, target=4, selection=rule))
    loader = make(raw_shards, batch=16, context=8, target=4, selection=rule)
    written = {**WRITTEN_BEFORE, "fingerprint": loader.fingerprint}
    loader.load_state_dict(written)
    assert loader.state_dict() == written
    assert_equal_steps([list(step) for step in one_epoch(loader)], [list(step) for step in whole[2:]])
