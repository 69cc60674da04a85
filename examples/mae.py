"""Masked autoencoding: a small Vision Transformer sees a quarter of an image's patches and paints the hidden ones.

    python examples/mae.py SHARDS [--epochs 3]
    python examples/mae.py SHARDS --probe TEST_SHARDS    # how well a line tells the classes apart by its features

He et al., *Masked Autoencoders Are Scalable Vision Learners* (arXiv 2111.06377). The loader draws the mask, a function
of (seed, epoch, sample id), and gives the encoder its 25 % of the patches: nothing hidden is embedded or copied.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines import ImageLoader, PatchLoader
from pipelines.batch import PatchBatch
from pipelines.sampling.grid import Grid, patchify
from selfie_model.features.encoder import Features, gather
from selfie_model.features.probe import linear_probe

WIDTH, DEPTH, DECODER_WIDTH, PEAK_RATE = 128, 4, 64, 2e-3


def transformer(width: int, depth: int) -> nn.TransformerEncoder:
    """Pre-norm blocks, heads of 64, and a last norm: [B, N, width] -> the same."""
    block = nn.TransformerEncoderLayer(
        width, width // 64, 4 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)


def place_codes(side: int, width: int) -> Tensor:
    """Sines and cosines of every cell's row and column: float32 [side * side, width], row by row."""
    angle = torch.arange(side)[:, None] * 10_000 ** -(torch.arange(width // 4) / (width // 4))
    code = torch.cat((angle.sin(), angle.cos()), dim=1)
    return torch.cat((code.repeat_interleave(side, dim=0), code.repeat(side, 1)), dim=1)


class Encoder(nn.Module):
    """A Vision Transformer over whichever patches it is given."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * grid.patch_size**2, WIDTH)
        self.blocks = transformer(WIDTH, DEPTH)
        self.register_buffer("place", place_codes(grid.side, WIDTH))

    def forward(self, patches: Tensor, position: Tensor) -> Tensor:
        """patches [B, N, p, p, 3], normalised, and their cells [B, N] -> [B, N, WIDTH]."""
        return self.blocks(self.embed(patches.flatten(2)) + self.place[position])


class MaskedAutoencoder(nn.Module):
    """The encoder, and a smaller decoder that paints the hidden patches from what it says of the others."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.encoder = Encoder(grid)
        self.narrow = nn.Linear(WIDTH, DECODER_WIDTH)
        self.hidden = nn.Parameter(torch.zeros(DECODER_WIDTH))  # stands for every hidden patch
        self.decoder = transformer(DECODER_WIDTH, 1)
        self.paint = nn.Linear(DECODER_WIDTH, 3 * grid.patch_size**2)
        self.register_buffer("place", place_codes(grid.side, DECODER_WIDTH))

    def forward(self, batch: PatchBatch) -> Tensor:
        """The mean squared error over the pixels of the hidden patches, each of them standardised."""
        seen = self.narrow(self.encoder(batch.context, batch.context_position)) + self.place[batch.context_position]
        tokens = torch.cat((seen, self.hidden + self.place[batch.target_position]), dim=1)
        painted = self.paint(self.decoder(tokens)[:, batch.context_count :])
        target = batch.target.flatten(2)
        target = (target - target.mean(dim=2, keepdim=True)) / (target.std(dim=2, keepdim=True) + 0.01)
        return nn.functional.mse_loss(painted.float(), target)


def pretrain(loader: PatchLoader, model: MaskedAutoencoder, epochs: int) -> None:
    """AdamW at a rate that rises for a tenth of the steps and falls as a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    steps = epochs * len(loader)
    for epoch in range(epochs):
        for index, batch in enumerate(loader):
            step = epoch * len(loader) + index
            share = min(1, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.param_groups[0]["lr"] = PEAK_RATE * share
            # On a CPU the fused attention's backward is slow for so few tokens: half of a step was spent in it.
            with sdpa_kernel(SDPBackend.MATH), torch.autocast(batch.patches.device.type, torch.bfloat16):
                loss = model(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {len(loader)} steps, loss {loss.item():.4f}", flush=True)


def features(loader: ImageLoader, function: Callable[[Tensor], Tensor]) -> Features:
    """What `function` makes of every image, [B, H, W, 3] -> [B, D]."""

    def batches() -> Iterator[Features]:
        for batch in loader:
            real = batch.sample_id >= 0  # the last batch is filled up
            with torch.inference_mode(), torch.autocast(batch.image.device.type, torch.bfloat16):
                vector = function(batch.image[real]).float()
            yield Features(vector.cpu().numpy(), batch.label[real].cpu().numpy(), batch.sample_id[real].cpu().numpy())

    return gather(batches())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--probe", type=Path, help="labelled shards to test a linear classifier on")
    parser.add_argument("--images", type=int, default=20_000, help="how many of SHARDS it learns from")
    parser.add_argument("--beside", nargs="*", default=[], choices=["untrained", "pixels"], help="probe these too")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    common = {"seed": options.seed, "dtype": "float32", "device": device}
    with PatchLoader(options.shards, global_batch_size=256, patch_size=4, target=48, **common) as loader:  # of 64 cells
        grid, classes, normalisation = loader.grid, len(loader.class_names), loader.normalisation
        untrained, model = Encoder(grid).to(device), MaskedAutoencoder(grid).to(device)
        pretrain(loader, model, options.epochs)

    cells = torch.arange(grid.cells, device=device)
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "trained": lambda image: model.encoder(patchify(image, 4), cells.expand(len(image), -1)).mean(dim=1),
        "untrained": lambda image: untrained(patchify(image, 4), cells.expand(len(image), -1)).mean(dim=1),
        "pixels": lambda image: image.flatten(1),
    }
    for kind in ["trained", *options.beside] if options.probe else []:
        images = {"evaluation": True, "global_batch_size": 500, "normalisation": normalisation, **common}
        with (
            ImageLoader(options.shards, subset=np.arange(options.images), **images) as train,
            ImageLoader(options.probe, **images) as test,
        ):
            found = linear_probe(features(train, kinds[kind]), features(test, kinds[kind]), classes=classes)
        done = {"seed": options.seed, "probe": kind, "accuracy": round(found.accuracy, 4)}
        print(json.dumps({**done, "cpu_s": round(time.process_time(), 1)}), flush=True)  # of all up to here


if __name__ == "__main__":
    main()
