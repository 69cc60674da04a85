"""Selections by name in a loader: every backend gives the same, states know them, wrong numbers are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import PatchLoader
from pipelines.sampling.blocks import Blocks, Multiblock, Squares
from pipelines.sampling.grid import patchify
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_model.network.selfie import Selfie
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import assert_same_stream, patches
from tests.selfie_model.memory import small_config

SMALL = Multiblock(targets=2, target_area=(0.1, 0.2), least=2)
RULES = [
    {"selection": "random", "context": 4},
    {"selection": "blocks", "target": 9},
    {"selection": Blocks(smallest=2), "target": 5, "masking": "zero"},
    {"selection": "squares", "target": 8},
    {"selection": SMALL, "whole_image": True, "dtype": "float32"},
]


@pytest.mark.parametrize("backend", ["cpu", "dali"])
@pytest.mark.parametrize("options", RULES, ids=str)
def test_every_backend_gives_the_same(raw_shards: Path, backend: str, options: dict[str, object]) -> None:
    with patches(raw_shards, backend=backend, **options) as ours, patches(raw_shards, **options) as reference:
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_pixel_store_gives_the_same(raw_shards: Path, tmp_path: Path, options: dict[str, object]) -> None:
    export_store(open_dataset(raw_shards), tmp_path / "store.zarr")
    stored = {"backend": "store", "store": tmp_path / "store.zarr"}
    with patches(raw_shards, **stored, **options) as ours, patches(raw_shards, **options) as reference:
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("backend", ["cpu", "dali"])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_patches_of_transformers_sizes(raw_shards: Path, backend: str, size: int) -> None:
    with patches(raw_shards, backend=backend, patch_size=size) as ours, patches(raw_shards, patch_size=size) as twin:
        assert_same_stream(ours, twin)
        assert ours.grid.cells == (32 // size) ** 2


@pytest.mark.parametrize(("size", "patch"), [(56, 14), (64, 16), (96, 4), (224, 14), (224, 16)])
def test_photographs_in_patches_of_transformers_sizes(make_dataset: MakeDataset, size: int, patch: int) -> None:
    shards = make_dataset(samples=6, size=size, encoding="jpeg", shapes=[(260, 300), (290, 256)])
    options = {"batch": 3, "patch_size": patch, "selection": "blocks", "target": 4}
    with patches(shards, backend="cpu", **options) as ours, patches(shards, **options) as reference:
        assert_same_stream(ours, reference)


def test_multiblock_gives_the_whole_grid_and_says_who_sees_what(raw_shards: Path) -> None:
    options = {"batch": 20, "selection": SMALL, "patch_size": 4}
    whole = next(iter(patches(raw_shards, whole_image=True, augment="none", **options)))
    context, targets, most = SMALL.shape(patches(raw_shards, patch_size=4).grid)
    assert whole.patches.shape == (20, 64, 4, 4, 3)
    assert torch.equal(whole.position, torch.arange(64).expand(20, 64))
    assert whole.context_cells is not None
    assert whole.context_valid is not None
    assert whole.target_cells is not None
    assert whole.target_valid is not None
    assert whole.context_cells.shape == whole.context_valid.shape == (20, context)
    assert whole.target_cells.shape == whole.target_valid.shape == (20, targets, most)
    seen = torch.zeros(20, 64, dtype=torch.bool).scatter_add_(1, whole.context_cells, whole.context_valid)
    assert torch.equal(seen, ~whole.mask)
    drawn = SMALL.draw(0, 0, whole.sample_id.numpy(), patches(raw_shards, patch_size=4).grid)
    assert all(
        np.array_equal(tensor.numpy(), array)
        for tensor, array in zip(
            (whole.context_cells, whole.context_valid, whole.target_cells, whole.target_valid), drawn, strict=True
        )
    )
    assert whole.image is not None
    hidden = patchify(whole.image, 4)[whole.mask]
    assert not hidden.any()


def test_padding_of_an_evaluation_sees_nothing(raw_shards: Path) -> None:
    last = list(patches(raw_shards, batch=20, selection=SMALL, evaluation=True))[-1]
    padding = last.sample_id < 0
    assert padding.sum() == 10
    assert last.context_valid is not None
    assert last.target_valid is not None
    assert not last.context_valid[padding].any()
    assert not last.target_valid[padding].any()
    assert last.context_valid[~padding].any(dim=1).all()
    half = last.split(2)[1]
    assert half.target_valid is not None
    assert torch.equal(half.target_valid, last.target_valid[10:])


@pytest.mark.parametrize("rule", [Blocks(smallest=2), Squares(side=2), SMALL])
def test_a_state_is_refused_under_another_selection(raw_shards: Path, rule: object) -> None:
    target = {} if rule is SMALL else {"target": 8}
    state = patches(raw_shards, selection=rule, **target).state_dict()
    patches(raw_shards, selection=rule, **target).load_state_dict(state)
    for other in (None, Blocks(smallest=3), Multiblock(targets=2, target_area=(0.1, 0.2), least=3)):
        counts = {} if isinstance(other, Multiblock) else {"target": 8}
        with pytest.raises(ValueError, match="patches of 8 px"):
            patches(raw_shards, selection=other, **counts).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"selection": "block"}, "one of random, blocks, squares, multiblock"),
        ({"selection": 7}, "a name, a record of sampling.blocks or a function, got 7"),
        ({"selection": "blocks", "context": 3, "target": 4}, r"context \+ target must be 16, got 3 \+ 4"),
        ({"selection": "squares", "target": 6}, "target be a multiple of 4, got 6"),
        ({"selection": "multiblock", "target": 6}, "leave context, target and masking out"),
        ({"selection": "multiblock", "masking": "zero"}, "leave context, target and masking out"),
        ({"selection": Multiblock(targets=9)}, "too little of 4 x 4 to see"),
        ({"patch_size": 5}, "5"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(raw_shards: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PatchLoader(raw_shards, global_batch_size=8, device="cpu", **options)


def test_selfie_refuses_batches_without_targets_of_their_own(raw_shards: Path) -> None:
    batch = next(iter(patches(raw_shards, selection=SMALL)))
    with pytest.raises(ValueError, match="multiblock has none"):
        Selfie(small_config(image_size=32, patch_size=8))(batch)
