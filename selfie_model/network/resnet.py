"""P, the patch network: the first three stages of ResNet-50, and the parts that the classifier shares with it.

    small stem (32 px images)                       large stem (224 px images)
    8x8 patch  → 3x3/1         → 8x8 x 64           32x32 patch → 7x7/2, max-pool/2 → 8x8 x 64
    stage 0, stride 1          → 8x8 x 256
    stage 1, stride 2          → 4x4 x 512          (the same)
    stage 2, stride 2          → 2x2 x 1024
    norm, ReLU, average        → 1024

Two variants of the bottleneck block, both with the stride in the 3x3 convolution:

    v2 (He et al. 2016, pre-activation)     v1 (He et al. 2015, as trained today: "v1.5")
    x → norm1 ReLU ┬ conv1 norm2 ReLU       x ┬ conv1 norm1 ReLU conv2 norm2 ReLU conv3 norm3 ┐
                   │ conv2 norm3 ReLU         └ (downsample: conv, norm) ─────────────────────(+)→ ReLU
                   │ conv3 ───────────(+)→
                   └ (downsample: conv) ┘    without a downsample v2's short cut is x itself

Parameter names are those of timm's `resnetv2_50`; `export` maps v1 to torchvision's.

Source: the paper, section "Pretraining"; the residual networks of arXiv 1603.05027 and 1512.03385.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfie_model.config import Config


class PatchNetwork(nn.Module):
    """P: one vector a patch. v2 ends in a norm and a ReLU of its own; v1's last block already ends in a ReLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        self.stem = make_stem(config)
        self.stages = make_stages(config, model.patch_stages)
        self.norm = make_final_norm(config, model.patch_stages)
        initialise(self)

    def forward(self, patches: Tensor) -> Tensor:
        """Maps normalised floats [M, 3, p, p] to [M, embedding]."""
        return average(self.norm(self.stages(self.stem(patches))))


class PreActivationBottleneck(nn.Module):
    """v2: norms and ReLUs before each convolution; nothing acts on the sum."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, project: bool) -> None:
        super().__init__()
        middle = outputs // 4
        self.downsample = nn.Sequential(OrderedDict(conv=_convolution(inputs, outputs, 1, stride))) if project else None
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _convolution(inputs, middle, 1)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv2 = _convolution(middle, middle, 3, stride)
        self.norm3 = nn.BatchNorm2d(middle)
        self.conv3 = _convolution(middle, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu_()
        shortcut = x if self.downsample is None else self.downsample(active)
        y = self.conv1(active)
        y = self.conv2(self.norm2(y).relu_())
        y = self.conv3(self.norm3(y).relu_())
        return torch.add(shortcut, y)


class Bottleneck(nn.Module):
    """v1: norms after each convolution, ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, project: bool) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = _convolution(inputs, middle, 1)
        self.norm1 = nn.BatchNorm2d(middle)
        self.conv2 = _convolution(middle, middle, 3, stride)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv3 = _convolution(middle, outputs, 1)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                OrderedDict(conv=_convolution(inputs, outputs, 1, stride), norm=nn.BatchNorm2d(outputs)),
            )
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.norm1(self.conv1(x)).relu_()
        y = self.norm2(self.conv2(y)).relu_()
        y = self.norm3(self.conv3(y))
        return torch.add(shortcut, y).relu_()


def make_stem(config: Config) -> nn.Sequential:
    """Returns the layers before stage 0. v1 normalises here; v2's first block does that itself."""
    model = config.model
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if model.stem == "small":
        layers["conv"] = _convolution(3, model.width, 3)
    else:
        layers["conv"] = _convolution(3, model.width, 7, 2)
    if model.variant == "v1":
        layers["norm"] = nn.BatchNorm2d(model.width)
        layers["relu"] = nn.ReLU(inplace=True)
    if model.stem == "large":
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(layers)


def make_stages(config: Config, count: int) -> nn.Sequential:
    """Returns the first `count` stages; keys `STAGE.blocks.BLOCK.LAYER`."""
    model = config.model
    block = PreActivationBottleneck if model.variant == "v2" else Bottleneck
    stages = []
    inputs = model.width
    for stage in range(count):
        outputs = stage_width(config, stage)
        blocks = []
        for number in range(model.blocks[stage]):
            first = number == 0
            stride = 2 if first and stage > 0 else 1
            blocks.append(block(inputs, outputs, stride=stride, project=first))
            inputs = outputs
        stages.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks))))
    return nn.Sequential(*stages)


def make_final_norm(config: Config, stages: int) -> nn.Module:
    """Returns the norm between the last of `stages` stages and the average: v2 needs one, v1's blocks end in theirs."""
    if config.model.variant == "v1":
        return nn.Identity()
    return nn.BatchNorm2d(stage_width(config, stages - 1))


def average(features: Tensor) -> Tensor:
    """Maps [M, C, H, W] to [M, C]: ReLU (which v1's features have had: it changes nothing there), mean over the map."""
    return F.relu(features).mean(dim=(2, 3))


def stage_width(config: Config, stage: int) -> int:
    """Returns the channels that stage 0, 1, 2 or 3 puts out."""
    return config.model.width * 4 << stage


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution; linear layers truncated normal 0.02, biases 0; norms 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
