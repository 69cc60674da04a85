"""The generated pictures: reproducible, split into disjoint sets, and about shape and layout rather than colour."""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.sampling.grid import Grid, patchify
from pipelines.sampling.selection import select_cells
from selfie_data.errors import SourceError
from selfie_data.sources import open_source
from selfie_data.sources.synthetic import SyntheticSource
from selfie_data.sources.synthetic_shapes import SHAPES


def _source(count: int = 1000, *, size: int = 32, split: str = "train", seed: int = 0) -> SyntheticSource:
    return SyntheticSource(split=split, count=count, size=size, seed=seed)


def _linear_accuracy(features: NDArray[np.float64], labels: NDArray[np.int32], *, train: int) -> float:
    """Test accuracy of a ridge classifier fitted to the first `train` samples."""
    scaled = (features - features[:train].mean(axis=0)) / (features[:train].std(axis=0) + 1e-9)
    inputs = np.concatenate((scaled, np.ones((len(scaled), 1))), axis=1)
    gram = inputs[:train].T @ inputs[:train] + np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs[:train].T @ np.eye(10)[labels[:train]])
    return float(((inputs[train:] @ weights).argmax(axis=1) == labels[train:]).mean())


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (32, "0ede5e1a06f60603dcedbf6aa3751bc7849be184aa9fd1010b7372a2b26ccd17"),
        (33, "ecd5f6dd32f5afade2cd0e7bd903a69fd0940bb4332e915edd2362821e54a20e"),
        (224, "d5bbcd44cd924fb44a84787f1469ee21ff2e2c1c246b1420dbc89a4c06922db9"),
    ],
    ids=["32", "33", "224"],
)
def test_pictures_are_the_published_bytes(size: int, digest: str) -> None:
    pictures = _source(size=size).pictures(np.arange(20))
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == digest


@settings(max_examples=20)
@given(
    indices=st.lists(st.integers(0, 99_999), max_size=20),
    size=st.sampled_from([8, 32, 45]),
    split=st.sampled_from(["train", "val", "test"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_picture_depends_on_seed_and_index_only(indices: list[int], size: int, split: str, seed: int) -> None:
    source = _source(100_000, size=size, split=split, seed=seed)
    together = source.read_many(indices)
    for index, image in zip(indices, together, strict=True):
        assert isinstance(image.data, np.ndarray)
        assert image.data.shape == (size, size, 3)
        assert image.data.dtype == np.uint8
        assert image.name == f"synthetic/{split}/{index:09d}"
        alone = _source(index + 1, size=size, split=split, seed=seed).read(index)
        np.testing.assert_array_equal(alone.data, image.data)


def test_chunks_do_not_show() -> None:
    source = _source(300)
    whole = source.pictures(np.arange(300))
    np.testing.assert_array_equal(whole[::-7], source.pictures(np.arange(300)[::-7]))


def test_a_picture_is_the_same_scene_at_every_size() -> None:
    """Up to the largest, where 32-bit sums are nearest to their limit."""
    small, large = (_source(size=size).pictures(np.arange(10)).astype(float) for size in (32, 1024))
    pooled = large.reshape(10, 32, 32, 32, 32, 3).mean(axis=(2, 4))
    noise = _source(size=32).pictures(np.arange(10, 20)).astype(float)
    assert np.abs(pooled - small).mean() < 10 < 40 < np.abs(pooled - noise).mean()


def test_splits_and_seeds_share_no_picture() -> None:
    sets = [_source(1500, split=split).pictures(np.arange(1500)) for split in ("train", "val", "test")]
    sets.append(_source(1500, seed=1).pictures(np.arange(1500)))
    pictures = {picture.tobytes() for pictures in sets for picture in pictures}
    assert len(pictures) == 4 * 1500


def test_labels_are_balanced_and_sorted_by_name() -> None:
    source = _source(1003)
    assert list(source.class_names) == sorted(SHAPES)
    assert source.labels.dtype == np.int32
    assert np.bincount(source.labels).tolist() == [101] * 3 + [100] * 7
    assert not source.labels.flags.writeable


def test_another_builds_classes_number_the_labels() -> None:
    names = tuple(sorted([*SHAPES, "aardvark"]))
    source = open_source("synthetic", limit=20, classes=names)
    assert [names[label] for label in source.labels] == [*SHAPES, *SHAPES]
    with pytest.raises(SourceError, match="lack cross"):
        open_source("synthetic", classes=tuple(name for name in SHAPES if name != "cross"))


def test_it_is_a_source() -> None:
    source = open_source("synthetic", limit=50, size=48, seed=3, split="val")
    assert len(source) == 50
    assert source.description == {
        "kind": "synthetic", "split": "val", "count": 50, "size": 48, "seed": 3, "version": 1,
    }  # fmt: skip
    assert source.spool_bytes == 0
    copy = pickle.loads(pickle.dumps(source.spool("unused")))  # noqa: S301
    np.testing.assert_array_equal(copy.read(7).data, source.read(7).data)
    assert source.fingerprint != open_source("synthetic", limit=50, size=48, seed=4, split="val").fingerprint


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="8 to 1024 px wide, got 4"):
        open_source("synthetic", size=4)
    with pytest.raises(ValueError, match="number of synthetic pictures"):
        open_source("synthetic", limit=0)
    with pytest.raises(SourceError, match="reads no files"):
        open_source("synthetic", "/somewhere")
    with pytest.raises(IndexError, match="pictures are 0 to 9"):
        _source(10).read(10)


def test_mean_colour_says_next_to_nothing_about_the_class() -> None:
    source = _source(6000)
    colours = source.pictures(np.arange(6000)).mean(axis=(1, 2))
    spread = source.pictures(np.arange(6000)).std(axis=(1, 2))
    squares = np.stack([colours[:, i] * colours[:, j] for i in range(3) for j in range(i, 3)], axis=1)
    assert _linear_accuracy(colours, source.labels, train=4000) < 0.13  # chance is 0.10
    assert _linear_accuracy(np.concatenate((colours, squares, spread), 1), source.labels, train=4000) < 0.17


def test_shape_says_much_about_the_class() -> None:
    """Where the edges are, whatever the colours, tells most classes apart even for a linear classifier."""
    source = _source(6000)
    luminance = source.pictures(np.arange(6000)).astype(float).sum(axis=3)
    edges = np.abs(np.diff(luminance, axis=1))[:, :, :-1], np.abs(np.diff(luminance, axis=2))[:, :-1]
    pooled = [edge[:, :30, :30].reshape(-1, 10, 3, 10, 3).mean(axis=(2, 4)).reshape(6000, -1) for edge in edges]
    edge_map = np.concatenate(pooled, axis=1)
    edge_map /= edge_map.mean(axis=1, keepdims=True)
    assert _linear_accuracy(edge_map, source.labels, train=4000) > 0.5
    raw = luminance.reshape(6000, -1)
    assert _linear_accuracy(raw, source.labels, train=4000) < 0.25  # raw pixels are not enough: either polarity


def test_target_patches_can_be_put_back() -> None:
    """A rule as simple as "borders should match" fills the holes far above chance (25 %); on noise it does not."""
    pictures = _source(400).pictures(np.arange(400))
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, dtype=np.uint8)
    assert _border_accuracy(pictures) > 0.6
    assert _border_accuracy(noise) < 0.3


def _border_accuracy(pictures: NDArray[np.uint8]) -> float:
    cells = select_cells(0, 0, range(len(pictures)), Grid(image_size=32, patch_size=8), context=12, target=4)
    patches = patchify(pictures, 8).astype(np.int64)
    right = 0
    for image, chosen in zip(patches, cells, strict=True):
        context, targets = set(chosen[:12].tolist()), chosen[12:]
        for number, hole in enumerate(targets.tolist()):
            costs = [_border_cost(image, image[target], hole, context) for target in targets]
            right += int(np.argmin(costs)) == number
    return right / (4 * len(pictures))


def _border_cost(image: NDArray[np.int64], patch: NDArray[np.int64], hole: int, context: set[int]) -> float:
    """Mean difference between the patch's borders and those of the context patches beside the hole."""
    row, column = divmod(hole, 4)
    sides = (
        (row > 0, hole - 4, patch[0], -1, 0),
        (row < 3, hole + 4, patch[-1], 0, 0),
        (column > 0, hole - 1, patch[:, 0], -1, 1),
        (column < 3, hole + 1, patch[:, -1], 0, 1),
    )
    differences = [
        np.abs(np.take(image[cell], edge, axis=axis) - border).mean()
        for inside, cell, border, edge, axis in sides
        if inside and cell in context
    ]
    return float(np.mean(differences)) if differences else 0.0
