"""Probes find what is in the features and nothing else; features come from the part of the network they name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sampling.grid import patchify
from selfie_model import Classifier, ImageBatch, Selfie, presets
from selfie_model.features.encoder import FeatureExtractor, Features, extract, gather, load_encoder
from selfie_model.features.probe import held_out_mask, linear_probe, nearest_neighbours
from selfie_model.training.checkpoint import FORMAT, Checkpoints

CONFIG = presets.tiny()


def clusters(count: int, *, seed: int, spread: float, classes: int = 3) -> Features:
    rng = np.random.default_rng(seed)
    label = np.arange(count) % classes
    centre = np.eye(classes, 8) * 4
    vector = (centre[label] + rng.normal(size=(count, 8)) * spread).astype(np.float32)
    return Features(vector, label.astype(np.int64), np.arange(count))


def batch(count: int, *, padding: int = 0) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    ids = torch.arange(count)
    ids[count - padding :] = -1
    return ImageBatch(image=image, label=torch.where(ids < 0, -1, ids % 3), sample_id=ids)


def test_clusters_are_found_by_both_probes() -> None:
    train, test = clusters(300, seed=0, spread=0.3), clusters(90, seed=1, spread=0.3)
    assert linear_probe(train, test, classes=3).accuracy == 1.0
    assert nearest_neighbours(train, test, classes=3) == 1.0


def test_noise_stays_near_chance() -> None:
    train, test = clusters(600, seed=0, spread=1e4), clusters(600, seed=1, spread=1e4)
    assert abs(linear_probe(train, test, classes=3).accuracy - 1 / 3) < 0.1
    assert abs(nearest_neighbours(train, test, classes=3) - 1 / 3) < 0.1


def test_one_neighbour_is_the_nearest_by_cosine() -> None:
    train, test = clusters(50, seed=0, spread=5), clusters(40, seed=1, spread=5)
    unit = [features.vector / np.linalg.norm(features.vector, axis=1, keepdims=True) for features in (train, test)]
    nearest = (unit[1] @ unit[0].T).argmax(axis=1)
    expected = float((train.label[nearest] == test.label).mean())
    assert nearest_neighbours(train, test, classes=3, k=1) == pytest.approx(expected)


def test_unlabelled_and_too_few_are_refused() -> None:
    train = clusters(30, seed=0, spread=1)
    unlabelled = train._replace(label=np.full(30, -1))
    with pytest.raises(ValueError, match=r"a label in 0\.\.2 each"):
        nearest_neighbours(train, unlabelled, classes=3)
    with pytest.raises(ValueError, match=r"k must be in 1\.\.30"):
        nearest_neighbours(train, train, classes=3, k=31)
    with pytest.raises(ValueError, match="10 or more vectors of a class"):
        linear_probe(clusters(6, seed=0, spread=1), train, classes=3)


@pytest.mark.parametrize("temperature", [0.02, 0.07, 0.2, None])
def test_the_temperature_decides_between_one_near_and_two_farther_neighbours(temperature: float | None) -> None:
    """Two votes at distance d win over one at 0 unless exp(d / temperature) is above 2; None is the paper's 0.07."""
    options = {} if temperature is None else {"temperature": temperature}
    for factor, accuracy in ((0.97, 0.0), (1.03, 1.0)):
        cosine = 1 - factor * (temperature or 0.07) * np.log(2)
        far = [cosine, np.sqrt(1 - cosine**2)]
        train = Features(np.array([[1.0, 0.0], far, far], dtype=np.float32), np.array([1, 0, 0]), np.arange(3))
        test = Features(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]), np.arange(1))
        assert nearest_neighbours(train, test, classes=2, k=3, **options) == accuracy


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200))
def test_a_tenth_of_each_class_is_held_out(labels: list[int]) -> None:
    label = np.array(labels, dtype=np.int64)
    mask = held_out_mask(label)
    for value in np.unique(label):
        assert mask[label == value].sum() == (label == value).sum() // 10


@settings(max_examples=20, deadline=None)
@given(side=st.integers(1, 4), patch=st.integers(1, 8), count=st.integers(1, 3))
def test_patches_of_an_image_are_row_major(side: int, patch: int, count: int) -> None:
    images = torch.arange(count * (side * patch) ** 2 * 3).reshape(count, side * patch, side * patch, 3)
    patches = patchify(images, patch)
    for cell in range(side * side):
        top, left = cell // side * patch, cell % side * patch
        assert torch.equal(patches[:, cell], images[:, top : top + patch, left : left + patch])


@pytest.mark.parametrize(("kind", "width"), [("patches", 128), ("image", 128), ("attention", 128)])
def test_a_selfie_gives_each_kind(kind: Any, width: int) -> None:
    encoder = FeatureExtractor(Selfie(CONFIG), kind)
    features = gather(extract(encoder, [batch(5), batch(4, padding=2)], device=torch.device("cpu")))
    assert features.vector.shape == (7, width)
    assert features.vector.dtype == np.float32
    assert features.sample_id.tolist() == [0, 1, 2, 3, 4, 0, 1]
    np.testing.assert_allclose(features.vector[:2], features.vector[5:], rtol=1e-4, atol=1e-5)


def test_mean_of_patches_is_what_p_gives_patch_by_patch() -> None:
    selfie = Selfie(CONFIG).eval()
    image = batch(2).image
    pixels = selfie.normalise(image)
    with torch.no_grad():
        by_hand = torch.stack(
            [
                selfie.patch_network(pixels[:, top : top + 8, left : left + 8].permute(0, 3, 1, 2))
                for top in range(0, 32, 8)
                for left in range(0, 32, 8)
            ]
        ).mean(dim=0)
    torch.testing.assert_close(FeatureExtractor(selfie, "patches")(image), by_hand)


def test_a_classifier_has_features_of_whole_images_only() -> None:
    network = Classifier(CONFIG, 3)
    assert FeatureExtractor(network, "image")(batch(2).image).shape == (2, 256)
    with pytest.raises(ValueError, match="whole image only, got source 'patches'"):
        FeatureExtractor(network, "patches")


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_is_loaded_with_its_default_kind(kind: str, tmp_path: Path) -> None:
    network = Selfie(CONFIG) if kind == "pretrain" else Classifier(CONFIG, 3)
    state = {"format": FORMAT, "kind": kind, "config": CONFIG.to_dict(), "class_names": ["a", "b", "c"], "step": 1}
    Checkpoints(tmp_path).save({**state, "model": network.state_dict()})
    encoder, config = load_encoder(tmp_path)
    assert config == CONFIG
    assert encoder.kind == ("patches" if kind == "pretrain" else "image")
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_nothing_to_gather_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image"):
        gather([])
