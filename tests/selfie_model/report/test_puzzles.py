"""Pictures of the task: the image put together again, the answers in their holes, attention that adds up."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch

from selfie_model import Selfie
from selfie_model.report.puzzles import Puzzle, assemble, choose, draw, solve
from tests.selfie_model.memory import MemoryLoader, random_images, small_config


def puzzle(chosen: tuple[int, ...], sample_id: int = 0) -> Puzzle:
    return Puzzle(
        sample_id=sample_id,
        image=random_images(1)[0][0],
        side=4,
        hidden=(0, 5, 10, 15),
        chosen=chosen,
        confidence=(0.5,) * 4,
        attention=np.full(16, 1 / 17, dtype=np.float32),
    )


@pytest.mark.parametrize("masking", ["skip", "zero"])
def test_images_come_back_whole(masking: str) -> None:
    config = small_config(masking=masking)
    images, labels = random_images(6)
    batch = MemoryLoader(images, labels, batch_size=6, model=config.model, evaluation=True).batch(0, 0)
    np.testing.assert_array_equal(assemble(batch, side=4), images)


def test_cells_without_a_patch_are_grey() -> None:
    config = small_config(context=10, target=3)
    images, labels = random_images(2)
    batch = MemoryLoader(images, labels, batch_size=2, model=config.model, evaluation=True).batch(0, 0)
    whole = assemble(batch, side=4)
    assert (whole == 128).all(axis=3).sum() >= 2 * 3 * 16
    assert ((whole == images).all(axis=3) | (whole == 128).all(axis=3)).all()


@pytest.mark.parametrize("masking", ["skip", "zero"])
def test_answers_and_attention_are_those_of_the_model(masking: str) -> None:
    config = small_config(masking=masking)
    images, labels = random_images(8)
    batch = MemoryLoader(images, labels, batch_size=8, model=config.model, evaluation=True).batch(0, 0)
    torch.manual_seed(0)
    selfie = Selfie(config).train()
    puzzles = solve(selfie, batch)
    assert selfie.training
    with torch.no_grad():
        output = selfie.eval()(batch)
    right = sum(entry.right for entry in puzzles)
    assert right == pytest.approx(float(output.accuracy) * 8 * config.model.target)
    for row, entry in enumerate(puzzles):
        assert entry.hidden == tuple(batch.target_position[row].tolist())
        assert set(entry.chosen) <= set(entry.hidden)
        assert 0 < entry.attention.sum() < 1
        if masking == "skip":
            assert not entry.attention[list(entry.hidden)].any()


def test_float_patches_are_refused() -> None:
    config = small_config()
    images, labels = random_images(2)
    batch = MemoryLoader(images, labels, batch_size=2, model=config.model, evaluation=True).batch(0, 0)
    with pytest.raises(ValueError, match=r"uint8 patches, got torch\.float32"):
        solve(Selfie(config), replace(batch, patches=batch.patches.float()))


def test_the_choice_is_the_first_of_each_kind() -> None:
    clean, faulty = (0, 5, 10, 15), (0, 10, 5, 15)
    puzzles = [puzzle(kind, number) for number, kind in enumerate([faulty, clean, faulty, clean, clean])]
    assert [entry.sample_id for entry in choose(puzzles, right=2, wrong=1)] == [1, 3, 0]


def test_the_drawing_tells_right_from_wrong_in_words_and_signs() -> None:
    svg = draw(puzzle((0, 10, 5, 15)))
    words = " ".join(ElementTree.fromstring(svg).itertext())
    assert "Image 0: 2 of 4 hidden patches" in words
    assert words.count("✓") == 2
    assert words.count("✗") == 2
    assert "this patch belongs to row 2, column 2" in words
    assert "http" not in svg


def test_a_model_that_pools_without_attention_has_pictures_too() -> None:
    config = small_config(pooling="mean")
    images, labels = random_images(3)
    batch = MemoryLoader(images, labels, batch_size=3, model=config.model, evaluation=True).batch(0, 0)
    for solved in solve(Selfie(config), batch):
        assert not solved.attention.any()
        ElementTree.fromstring(draw(solved))
