"""The check tells the same work from other work."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.work import material
from benchmarks.work.check import disagreements, observe
from benchmarks.work.task import MEAN, STD, Masked, Task, rows
from pipelines.sampling.grid import patchify


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("material")
    material.prepare("raw32", folder, images=None, limit=24)
    return replace(rows(folder, threads=1, dtype="uint8")["raw32"], batch_size=16)


def patches_of(task: Task) -> NDArray[np.uint8]:
    """16 stored images, every second one mirrored, their patches in random orders."""
    packed = material.load(task.source)
    images = np.array(packed.data).reshape(-1, 32, 32, 3)[:16]
    images[::2] = images[::2, :, ::-1]
    order = np.random.default_rng(0).random((16, 16)).argsort(axis=1)
    return np.take_along_axis(patchify(images, 8), order[:, :, None, None, None], axis=1)


def test_patches_of_stored_images_are_found_whatever_their_order_and_mirroring(task: Task) -> None:
    values = observe(patches_of(task), task)
    assert values["equal_to_stored"] == 1.0
    assert values["shape"] == [16, 16, 8, 8, 3]
    assert values["dtype"] == "uint8"


def test_normalised_patches_are_found_too(task: Task) -> None:
    normalised = ((patches_of(task) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).astype(np.float32)
    assert observe(normalised, replace(task, dtype="float32"))["equal_to_stored"] == 1.0


def test_one_wrong_pixel_is_noticed(task: Task) -> None:
    patches = patches_of(task)
    patches[3, 5, 0, 0, 0] ^= 1
    values = observe(patches, task)
    assert values["equal_to_stored"] == 15 / 16
    assert disagreements({"one": values}) == ["one: 94% of the images equal the stored ones"]


def test_a_patch_that_stands_twice_is_noticed(task: Task) -> None:
    patches = patches_of(task)
    patches[:, 1] = patches[:, 0]
    assert observe(patches, task)["equal_to_stored"] < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [16, 12, 8, 8, 3]}, r"odd: \[16, 12, 8, 8, 3\]"),
        ({"dtype": "float32"}, "odd: .* float32"),
        ({"mean": 60.0}, "odd: mean 60"),
        ({"low": 100, "high": 120}, "odd: values only from 100 to 120"),
    ],
    ids=["shape", "dtype", "mean", "range"],
)
def test_other_work_is_told(change: dict[str, Any], message: str) -> None:
    usual = {"shape": [16, 16, 8, 8, 3], "dtype": "uint8", "mean": 110.0, "spread": 60.0, "low": 0, "high": 255}
    found = disagreements({"a": usual, "b": usual, "odd": {**usual, **change}})
    assert len(found) >= 1
    assert any(re.search(message, line) for line in found)


def test_agreement_is_silent() -> None:
    usual = {"shape": [1], "dtype": "uint8", "mean": 110.0, "spread": 60.0, "low": 0, "high": 255}
    assert disagreements({"a": usual, "b": {**usual, "mean": 112.0}}) == []


def masked_batch(task: Task) -> Masked:
    """Four pictures, smooth as photographs are, their patches in random orders; the first 49 of each are visible."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(one).resize((224, 224), Image.Resampling.BILINEAR)) for one in coarse]
    )
    position = rng.random((4, 196)).argsort(axis=1)
    patches = np.take_along_axis(patchify(images, 16), position[:, :, None, None, None], axis=1)
    mask = np.ones((4, 196), bool)
    np.put_along_axis(mask, position[:, : task.visible], False, axis=1)
    return Masked(
        visible=patches[:, : task.visible],
        visible_position=position[:, : task.visible],
        patches=patches,
        position=position,
        mask=mask,
    )


@pytest.fixture(scope="module")
def masked_task() -> Task:
    return rows(Path("nowhere"), threads=1, dtype="uint8")["mae-jpeg256"]


def test_a_masked_batch_whose_parts_belong_together_is_one(masked_task: Task) -> None:
    values = observe(masked_batch(masked_task), masked_task)
    assert values["masked"]
    assert values["shape"] == [4, 49, 16, 16, 3]
    assert disagreements({"one": values}) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: {"visible": batch.patches[:, 49:98]},
        lambda batch: {"visible": batch.visible[:, :48], "visible_position": batch.visible_position[:, :48]},
        lambda batch: {"visible_position": batch.visible_position[:, ::-1]},
        lambda batch: {"mask": np.zeros_like(batch.mask)},
        lambda batch: {"position": np.zeros_like(batch.position)},
    ],
    ids=["other patches", "too few", "wrong cells", "wrong mask", "cells twice"],
)
def test_parts_that_do_not_belong_together_are_told(
    masked_task: Task, change: Callable[[Masked], dict[str, NDArray[Any]]]
) -> None:
    batch = masked_batch(masked_task)
    values = observe(replace(batch, **change(batch)), masked_task)
    assert "odd: what is visible is not what is said to be visible of the whole" in disagreements({"odd": values})


def test_one_mask_for_all_images_is_told(masked_task: Task) -> None:
    batch = masked_batch(masked_task)
    first = {
        name: np.repeat(getattr(batch, name)[:1], 4, axis=0) for name in ("visible", "visible_position", "patches")
    }
    same = replace(batch, **first, position=batch.position[[0] * 4], mask=batch.mask[[0] * 4])
    assert not observe(same, masked_task)["masked"]


def test_patches_that_make_no_picture_are_told(masked_task: Task) -> None:
    batch = masked_batch(masked_task)
    elsewhere = 195 - batch.position
    wrong = replace(batch, position=elsewhere, visible_position=elsewhere[:, :49], mask=batch.mask[:, ::-1])
    found = disagreements({"odd": observe(wrong, masked_task)})
    assert len(found) == 1
    assert "the patches make no pictures" in found[0]
