"""The classifier: a whole ResNet-50."""

import pytest
import torch

from pipelines.batch import ImageBatch
from selfie_model import presets
from selfie_model.config import Config
from selfie_model.network.classifier import Classifier
from tests.selfie_model.memory import random_images, small_config


def images(count: int = 6, size: int = 16) -> ImageBatch:
    pixels, labels = random_images(count, size)
    return ImageBatch(image=torch.from_numpy(pixels), label=torch.from_numpy(labels), sample_id=torch.arange(count))


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (presets.imagenet224(), 25_549_352),  # timm's resnetv2_50
        (presets.imagenet224().override(model={"variant": "v1"}), 25_557_032),  # torchvision's resnet50
    ],
    ids=["v2", "v1"],
)
def test_resnet_50_has_25_6_million_parameters(config: Config, count: int) -> None:
    assert sum(parameter.numel() for parameter in Classifier(config, 1000).parameters()) == count


@pytest.mark.parametrize("variant", ["v2", "v1"])
def test_loss_and_accuracy_are_those_of_the_labelled_images(variant: str) -> None:
    model = Classifier(small_config(variant=variant), 3).eval()
    batch = images()
    batch.label[4:] = -1
    output = model(batch)
    losses = [-torch.log_softmax(output.logits[row], dim=0)[batch.label[row]] for row in range(4)]
    assert torch.allclose(output.loss, torch.stack(losses).mean(), atol=1e-6)
    assert output.accuracy.item() == (output.logits[:4].argmax(dim=1) == batch.label[:4]).float().mean().item()
    assert output.counted.item() == 4


def test_a_batch_without_labels_counts_nothing() -> None:
    batch = images()
    batch.label[:] = -1
    output = Classifier(small_config(), 3).eval()(batch)
    assert (output.loss.item(), output.accuracy.item(), output.counted.item()) == (0.0, 0.0, 0)


def test_features_are_what_the_head_sees() -> None:
    model = Classifier(small_config(), 3).eval()
    batch = images()
    features = model.features(batch.image)
    assert features.shape == (6, 128)
    assert torch.equal(model.head(features), model(batch).logits)


def test_gradients_reach_every_parameter() -> None:
    model = Classifier(small_config(), 3)
    model(images()).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        Classifier(small_config(), 1)
