"""From P to the classifier: every weight that should, and no other."""

import re

import pytest
import torch

from selfie_model.network.classifier import Classifier
from selfie_model.network.selfie import Selfie
from selfie_model.network.transfer import transfer_patch_network
from tests.selfie_model.memory import small_config


def filled(module: torch.nn.Module, value: float) -> dict[str, torch.Tensor]:
    """Sets every entry of a module's state to `value`, so that it can be recognised."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(value)
    return module.state_dict()


@pytest.mark.parametrize("variant", ["v2", "v1"])
def test_loads_every_weight_it_should_and_no_other(variant: str) -> None:
    config = small_config(variant=variant)
    state = filled(Selfie(config), 7)
    classifier = Classifier(config, 3)
    filled(classifier, 3)
    loaded = transfer_patch_network(state, classifier)
    for name, tensor in classifier.state_dict().items():
        expected = name.startswith(("stem.", "stages.0.", "stages.1.", "stages.2.", "normalise."))
        assert (name in loaded) is expected, name
        assert (tensor == (7 if expected else 3)).all(), name


def test_number_of_keys_is_that_of_p_without_its_final_norm() -> None:
    config = small_config()
    selfie = Selfie(config)
    loaded = transfer_patch_network(selfie.state_dict(), Classifier(config, 3))
    own = [name for name in selfie.patch_network.state_dict() if not name.startswith("norm.")]
    assert len(loaded) == len(own) + 2  # normalise.scale, normalise.bias


def test_stage_four_and_head_stay_fresh() -> None:
    config = small_config()
    classifier = Classifier(config, 3)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    transfer_patch_network(Selfie(config).state_dict(), classifier)
    for name, tensor in classifier.state_dict().items():
        if name.startswith(("stages.3.", "norm.", "head.")):
            assert torch.equal(tensor, before[name]), name


def test_transferred_stages_compute_what_p_computed() -> None:
    config = small_config()
    selfie, classifier = Selfie(config).eval(), Classifier(config, 3).eval()
    transfer_patch_network(selfie.state_dict(), classifier)
    x = torch.randn(2, 3, 8, 8)
    network = selfie.patch_network
    assert torch.equal(classifier.stages[:3](classifier.stem(x)), network.stages(network.stem(x)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "missing stages.1.blocks.0.conv1.weight"),
        ("unknown", "no place for stages.2.blocks.9.conv1.weight"),
        ("shape", "shape of stages.0.blocks.0.conv1.weight (1, 2) instead of (4, 4, 1, 1)"),
    ],
)
def test_mismatches_name_the_keys_and_change_nothing(change: str, message: str) -> None:
    config = small_config()
    state = dict(Selfie(config).state_dict())
    if change == "missing":
        del state["patch_network.stages.1.blocks.0.conv1.weight"]
    elif change == "unknown":
        state["patch_network.stages.2.blocks.9.conv1.weight"] = torch.zeros(1)
    else:
        state["patch_network.stages.0.blocks.0.conv1.weight"] = torch.zeros(1, 2)
    classifier = Classifier(config, 3)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        transfer_patch_network(state, classifier)
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


def test_weights_of_another_variant_do_not_fit() -> None:
    state = Selfie(small_config(variant="v1")).state_dict()
    with pytest.raises(ValueError, match=r"do not fit this classifier: .*no place for .*norm"):
        transfer_patch_network(state, Classifier(small_config(), 3))
