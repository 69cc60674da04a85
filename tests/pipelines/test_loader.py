"""What the loaders promise, each promise a test: who sees what, in which order, as which tensors."""

import gc
import hashlib
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pipelines
from pipelines import ImageLoader, PatchLoader
from pipelines.batch import ImageBatch, PatchBatch
from pipelines.normalise import normalise
from pipelines.sampling import draws, order
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.grid import Grid, patchify
from pipelines.sampling.order import global_shuffle
from pipelines.sampling.selection import block_targets, patch_order
from selfie_data.dataset.opened import open_dataset
from tests.pipelines.conftest import MakeDataset, random_images
from tests.twins.draws import flips


def patches(shards: Path, *, batch: int = 16, backend: str = "reference", **options: object) -> PatchLoader:
    return PatchLoader(shards, global_batch_size=batch, backend=backend, device="cpu", **options)


def images(shards: Path, *, batch: int = 16, backend: str = "reference", **options: object) -> ImageLoader:
    return ImageLoader(shards, global_batch_size=batch, backend=backend, device="cpu", **options)


def ids_of(batches: Iterable[PatchBatch | ImageBatch]) -> list[int]:
    return [sample for batch in batches for sample in batch.sample_id.tolist()]


def assert_equal_batches(left: PatchBatch, right: PatchBatch) -> None:
    assert left.context_count == right.context_count
    for name in ("patches", "position", "mask", "sample_id"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name
    assert (left.image is None) == (right.image is None)
    if left.image is not None and right.image is not None:
        assert torch.equal(left.image, right.image)


# --- who sees what ---


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=st.integers(1, 8),
    samples=st.integers(8, 50),
    batch=st.integers(8, 20),
    shuffle=st.sampled_from(["global", 1, 2]),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 51}, "more than the 50 samples"),
        ({"batch": 2, "rank": 0, "world_size": 3}, "at least the number of ranks"),
        ({"rank": 3, "world_size": 3}, "rank 3 of 3"),
        ({"rank": 0}, "together"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"patch_size": 5}, "divide"),
        ({"patch_size": 0}, "divide"),
        ({"context": 14, "target": 3}, "14 \\+ 3"),
        ({"context": 16}, "16 \\+ 0"),
        ({"masking": "half"}, "masking"),
        ({"augment": "finetune"}, "padded crops"),
        ({"augment": "strong"}, "augment must be"),
        ({"augment": "pretrain", "evaluation": True}, "augment must be 'none'"),
        ({"dtype": "int8"}, "dtype must be one of uint8"),
        ({"verify": "sometimes"}, "verify must be one of"),
        ({"on_error": "skip"}, "on_error must be one of"),
        ({"on_error": "record"}, "needs exclude=PATH.txt"),
        ({"shuffle": 0}, "shuffle must be"),
        ({"shuffle": True}, "shuffle must be"),
        ({"shuffle": "local"}, "shuffle must be"),
        ({"prefetch": 0}, "at least 1"),
        ({"threads": 0}, "at least 1"),
        ({"backend": "magic"}, "backend must be"),
        ({"backend": "store"}, "needs store=PATH"),
        ({"store": "x.zarr"}, "read by the backend 'store'"),
        ({"subset": [0, 50]}, "must be in \\[0, 50\\)"),
        ({"subset": [0, -1]}, "must be in \\[0, 50\\)"),
        ({"subset": [3, 3]}, "distinct"),
        ({"subset": [0.5]}, "must be integers"),
        ({"exclude": range(50)}, "no sample is left"),
        ({"batch": 8.0}, "global_batch_size must be a whole number, got 8.0"),
        ({"batch": "8"}, "global_batch_size must be a whole number"),
        ({"batch": True}, "global_batch_size must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"rank": "0", "world_size": 1}, "rank must be a whole number"),
        ({"patch_size": 8.0}, "patch_size must be a whole number"),
        ({"context": 1.5}, "context must be a whole number"),
        ({"target": "4"}, "target must be a whole number"),
        ({"threads": 1.5}, "threads must be a whole number"),
        ({"prefetch": "2"}, "prefetch must be a whole number"),
        ({"shuffle": 1.5}, "shuffle must be"),
        ({"shuffle": None}, "shuffle must be"),
        ({"selection": "blocks"}, "selection must be a function"),
        ({"normalisation": 1}, "normalisation must be"),
        ({"normalisation": (np.ones(3), np.ones(2))}, "normalisation must be"),
        ({"normalisation": ([1, 1, float("nan")], [0, 0, 0])}, "normalisation must be"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_in_one_line(raw_shards: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        patches(raw_shards, **options)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_refused(raw_shards: Path) -> None:
    for device in ("mps", "gpu", None):
        with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got"):
            PatchLoader(raw_shards, global_batch_size=8, device=device)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            PatchLoader(raw_shards, global_batch_size=8, device="cuda")


# --- order and draws equal their definition ---


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


def test_an_evaluation_hides_the_same_patches_in_every_epoch(raw_shards: Path) -> None:
    loader = patches(raw_shards, evaluation=True)
    for left, right in zip(list(loader), list(loader), strict=True):
        assert_equal_batches(left, right)


# --- what a batch holds ---


@pytest.mark.parametrize(("context", "target"), [(12, 4), (1, 15), (15, 1), (1, 1), (5, 7)])
def test_any_split(raw_shards: Path, context: int, target: int) -> None:
    batch = next(iter(patches(raw_shards, context=context, target=target)))
    assert batch.context.shape == (16, context, 8, 8, 3)
    assert batch.target.shape == (16, target, 8, 8, 3)
    for row in range(16):
        seen, hidden = batch.context_position[row].tolist(), batch.target_position[row].tolist()
        assert len({*seen, *hidden}) == context + target
        assert [cell for cell in range(16) if not batch.mask[row, cell]] == sorted(seen)


@pytest.mark.parametrize(("patch_size", "expected"), [(None, (12, 4)), (4, (48, 16)), (16, (3, 1))])
def test_any_patch_size_and_its_default_split(
    raw_shards: Path, patch_size: int | None, expected: tuple[int, int]
) -> None:
    with patches(raw_shards, patch_size=patch_size) as loader:
        batch = next(iter(loader))
    assert (batch.context.shape[1], batch.target.shape[1]) == expected
    assert loader.grid.patch_size == (patch_size or 8)


def test_a_rule_of_ones_own_picks_the_patches(raw_shards: Path) -> None:
    loader = patches(raw_shards, context=6, target=4, selection=block_targets(context=6, height=2, width=2))
    for batch in loader:
        row, column = np.divmod(batch.target_position.numpy(), 4)
        assert (np.ptp(row, axis=1) == 1).all()
        assert (np.ptp(column, axis=1) == 1).all()


def test_a_rule_that_repeats_a_cell_is_refused(raw_shards: Path) -> None:
    def rule(order: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
        return order[:, [0, 0]]

    with pytest.raises(ValueError, match="distinct cells"):
        next(iter(patches(raw_shards, context=1, target=1, selection=rule)))


def test_masking_zero_gives_the_full_grid_with_holes_and_then_the_targets(raw_shards: Path) -> None:
    for skip, zero in zip(patches(raw_shards), patches(raw_shards, masking="zero"), strict=True):
        assert zero.context_count == 16
        assert zero.patches.shape == (16, 20, 8, 8, 3)
        assert torch.equal(zero.target, skip.target)
        assert torch.equal(zero.target_position, skip.target_position)
        assert torch.equal(zero.mask, skip.mask)
        assert (zero.context_position == torch.arange(16)).all()
        assert torch.equal(zero.mask.gather(1, zero.context_position), zero.mask)
        assert not zero.context[zero.mask].any()
        for row in range(16):
            for slot, cell in enumerate(skip.context_position[row].tolist()):
                assert torch.equal(zero.context[row, cell], skip.context[row, slot])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("masking", ["skip", "zero"])
def test_floats_are_the_normalised_bytes_and_holes_are_zero_after_that(
    raw_shards: Path, dtype: str, masking: str
) -> None:
    loader = patches(raw_shards, masking=masking, dtype=dtype, whole_image=True)
    for whole, floats in zip(patches(raw_shards, masking=masking, whole_image=True), loader, strict=True):
        assert floats.image is not None
        assert whole.image is not None
        for bytes_, ours in ((whole.patches, floats.patches), (whole.image, floats.image)):
            assert ours.dtype == getattr(torch, dtype)
            assert ours.is_contiguous()  # [..., H, W, 3]: channels last
            expected = torch.from_numpy(normalise(bytes_.numpy(), loader.normalisation)).to(ours.dtype)
            blank = ~ours.any(dim=-1, keepdim=True)
            assert torch.equal(ours, torch.where(blank, torch.zeros_like(expected), expected))
        if masking == "zero":
            assert not floats.context[floats.mask].any()


def test_the_whole_image_has_its_hidden_patches_blanked(raw_shards: Path) -> None:
    loader = patches(raw_shards, whole_image=True, seed=3)
    for batch in loader:
        assert batch.image is not None
        cut = torch.from_numpy(patchify(batch.image.numpy(), 8))
        assert not cut[batch.mask].any()
        for row in range(len(batch)):
            assert torch.equal(cut[row, batch.context_position[row]], batch.context[row])
    assert next(iter(patches(raw_shards))).image is None


def test_normalisation_is_the_data_sets_own_or_the_given(raw_shards: Path) -> None:
    manifest = open_dataset(raw_shards).manifest
    own = images(raw_shards).normalisation
    assert np.allclose(own.scale, 1 / np.array(manifest.std))
    assert np.allclose(own.bias, -np.array(manifest.mean) / np.array(manifest.std))
    given = own._replace(bias=own.bias + 1)
    batches = zip(
        images(raw_shards, dtype="float32"), images(raw_shards, dtype="float32", normalisation=given), strict=True
    )
    for left, right in batches:
        assert torch.allclose(left.image + 1, right.image, atol=1e-5)
    pair = images(raw_shards, normalisation=(given.scale.tolist(), given.bias.tolist())).normalisation
    assert np.array_equal(pair.scale, given.scale)
    assert np.array_equal(pair.bias, given.bias)


def test_attributes(raw_shards: Path) -> None:
    loader = patches(raw_shards)
    assert loader.class_names == ("a", "b", "c", "d")
    assert loader.fingerprint == open_dataset(raw_shards).fingerprint
    assert (loader.grid.side, loader.steps, len(loader), loader.epoch) == (4, 3, 3, 0)


# --- whole images ---


def test_finetuning_pads_crops_and_flips(raw_shards: Path) -> None:
    pictures = np.pad(random_images(50), ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = set()
    for batch in images(raw_shards, seed=9):
        for sample, label, image in zip(
            batch.sample_id.tolist(), batch.label.tolist(), batch.image.numpy(), strict=True
        ):
            assert label == sample % 4
            found = [
                (top, left, flip)
                for flip in (False, True)
                for top in range(9)
                for left in range(9)
                if (pictures[sample, top : top + 32, left : left + 32] == (image[:, ::-1] if flip else image)).all()
            ]
            assert len(found) == 1
            places.add(found[0])
    assert len(places) > 30


def test_evaluation_of_small_images_changes_nothing(raw_shards: Path) -> None:
    batches = list(images(raw_shards, evaluation=True))
    assert (torch.cat([batch.image for batch in batches])[:50].numpy() == random_images(50)).all()
    assert not batches[-1].image[2:].any()


@pytest.mark.parametrize("make", [patches, images])
def test_photographs_of_any_size(photo_shards: Path, make: type) -> None:
    for evaluation in (False, True):
        for batch in make(photo_shards, batch=10, evaluation=evaluation):
            tensor = batch.patches if isinstance(batch, PatchBatch) else batch.image
            assert tensor.shape[0] == 10
            assert tensor.float().std() > 10


@pytest.mark.parametrize("antialias", [True, False])
def test_a_random_resized_crop_of_small_images_is_an_option(raw_shards: Path, antialias: bool) -> None:
    loader = patches(raw_shards, augment=Augmentation(flip=True, crop_area=(0.64, 1)), antialias=antialias)
    plain = patches(raw_shards)
    differing = [not torch.equal(left.patches, right.patches) for left, right in zip(loader, plain, strict=True)]
    assert all(differing)


def test_unlabelled_sets_work_where_no_label_is_needed(make_dataset: MakeDataset) -> None:
    shards = make_dataset(labelled=False)
    assert len(list(patches(shards))) == 3
    assert all((batch.label == -1).all() for batch in images(shards))
    assert patches(shards).class_names == ()


# --- memory ---


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
    backend = weakref.ref(loader._running.backend)
    del loader
    gc.collect()
    assert reference() is None
    assert backend() is None


def test_the_slow_way_is_announced(
    raw_shards: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.backends import choose as backends

    monkeypatch.setitem(backends._CLASSES, "fused", ("pipelines.not_there", "FusedBackend"))
    with caplog.at_level(logging.WARNING, "pipelines"):
        loader = PatchLoader(raw_shards, global_batch_size=10, device="cpu")
    assert "slower way" in caplog.text
    assert len(list(loader)) == 5
    with pytest.raises(ValueError, match="'fused' cannot be used here"):
        PatchLoader(raw_shards, global_batch_size=10, device="cpu", backend="fused")


def test_importing_the_package_imports_neither_torch_nor_dali() -> None:
    script = "import sys, pipelines; print(sorted({'torch', 'nvidia', 'numba'} & set(sys.modules)), dir(pipelines)[:2])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] ['ImageLoader', 'PatchLoader']\n"
    with pytest.raises(AttributeError, match="no attribute 'Loader'"):
        pipelines.Loader  # noqa: B018
