"""P: sizes, strides, layouts of both variants and both stems."""

import pytest
import torch
from torch import nn

from selfie_model import presets
from selfie_model.config import Config
from selfie_model.network.resnet import PatchNetwork
from tests.selfie_model.memory import small_config


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (presets.cifar10(), 8_532_032),
        (presets.imagenet224(), 8_539_712),
        (presets.cifar10().override(model={"variant": "v1"}), 8_535_616),  # torchvision less layer4, fc, 7x7 stem
    ],
    ids=["small stem", "large stem", "v1"],
)
def test_patch_network_has_8_5_million_parameters(config: Config, count: int) -> None:
    assert parameters(PatchNetwork(config)) == count


@pytest.mark.parametrize("variant", ["v2", "v1"])
@pytest.mark.parametrize(("stem", "size"), [("small", 8), ("large", 32)])
def test_both_stems_end_in_a_2x2_map(variant: str, stem: str, size: int) -> None:
    network = PatchNetwork(small_config(variant=variant, stem=stem)).eval()
    seen: list[torch.Size] = []
    network.stages.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    embedding = network(torch.randn(3, 3, size, size))
    assert seen == [torch.Size((3, 64, 2, 2))]
    assert embedding.shape == (3, 64)


def test_v2_matches_its_formula() -> None:
    """The first block of a stage, written out: the short cut comes after norm1 and ReLU, the stride sits in conv2."""
    network = PatchNetwork(small_config()).eval()
    block = network.stages[1].blocks[0]
    x = torch.randn(2, 16, 8, 8)
    active = block.norm1(x).relu()
    y = block.conv3(block.norm3(block.conv2(block.norm2(block.conv1(active)).relu())).relu())
    assert torch.allclose(block(x), y + block.downsample.conv(active), atol=1e-6)
    assert block.conv2.stride == block.downsample.conv.stride == (2, 2)
    assert block.conv1.stride == (1, 1)


def test_v2_ends_in_norm_and_relu_and_its_embedding_is_not_negative() -> None:
    network = PatchNetwork(small_config())
    assert network.norm.weight.shape == (64,)
    assert (network(torch.randn(9, 3, 8, 8)) >= 0).all()


def test_forward_leaves_its_input_alone() -> None:
    for variant in ("v2", "v1"):
        network = PatchNetwork(small_config(variant=variant))
        x = torch.randn(2, 3, 8, 8)
        before = x.clone()
        network(x)
        assert torch.equal(x, before)


def test_channels_last_changes_no_value() -> None:
    network = PatchNetwork(small_config()).eval()
    x = torch.randn(2, 3, 8, 8)
    expected = network(x)
    network.to(memory_format=torch.channels_last)
    assert torch.allclose(network(x.to(memory_format=torch.channels_last)), expected, atol=1e-5)


def test_convolutions_start_with_hes_variance() -> None:
    weight = PatchNetwork(presets.cifar10()).stages[2].blocks[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
