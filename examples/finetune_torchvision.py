"""Pretrained weights in a training loop that knows nothing of this project: torchvision's network, data and transforms.

    selfie-model pretrain SHARDS --preset imagenet224 --set model.variant=v1 --out RUN
    selfie-model export RUN --format torchvision --out weights.safetensors
    python examples/finetune_torchvision.py FOLDER weights.safetensors [--epochs 1]

FOLDER has a folder of images a class. A pretraining run gives the stem and the stages of the patch network, the first
three: the fourth and the classifier begin at random. Size and normalisation of images stand in the file's metadata.
"""

import argparse
import json
from pathlib import Path

import torch
import torchvision
from safetensors import safe_open
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

LEFT_OUT = ("layer4.", "fc.")  # what a pretraining run has no weights of


def pretrained(path: Path, classes: int) -> tuple[nn.Module, dict[str, str]]:
    """Returns torchvision's resnet50 with the weights of a file, and what the file says of itself."""
    with safe_open(path, "pt") as file:
        facts, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    network = torchvision.models.resnet50(num_classes=classes)
    if state["conv1.weight"].shape[-1] == 3:  # pretrained on small images
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}  # of other classes
    missing, unknown = network.load_state_dict(state, strict=False)
    if unknown or not all(key.startswith(LEFT_OUT) for key in missing):
        raise SystemExit(f"{path} does not fit resnet50: unknown {unknown[:3]}, missing {missing[:3]}")
    return network, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()

    torch.manual_seed(1)
    classes = sum(path.is_dir() for path in options.folder.iterdir())
    network, facts = pretrained(options.weights, classes)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(int(facts["image_size"])),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(json.loads(facts["mean"]), json.loads(facts["std"])),
        ]
    )
    images = torchvision.datasets.ImageFolder(str(options.folder), transform)
    loader = DataLoader(images, options.batch, shuffle=True, num_workers=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(options.epochs):
        for image, label in loader:
            loss = nn.functional.cross_entropy(network(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {len(loader)} steps, loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
