"""I-JEPA: a small Vision Transformer learns to foretell how its own slower copy sees the hidden blocks of an image.

    python examples/ijepa.py SHARDS [--epochs 2]

Assran et al., *Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture* (arXiv 2301.08243).
The loader draws a block of context and four target blocks for every image, each a function of (seed, epoch, sample id).
Blocks have sizes of their own, so cells are padded to equal lengths, and `…_valid` says which of them are real.
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from pipelines.sampling.grid import Grid

WIDTH, DEPTH, PREDICTOR_WIDTH, RATE = 128, 4, 64, 1e-3


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


def take(tokens: Tensor, cells: Tensor) -> Tensor:
    """The tokens [B, G, D] of cells [B, N] -> [B, N, D]."""
    return tokens.gather(1, cells[..., None].expand(-1, -1, tokens.shape[2]))


class Encoder(nn.Module):
    """A Vision Transformer over all patches of an image, or over those of some cells."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * grid.patch_size**2, WIDTH)
        self.blocks = transformer(WIDTH, DEPTH)
        self.register_buffer("place", place_codes(grid.side, WIDTH))

    def forward(self, patches: Tensor, cells: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """patches [B, G, p, p, 3], normalised; cells and valid [B, N] -> [B, N, WIDTH], without them [B, G, WIDTH]."""
        tokens = self.embed(patches.flatten(2)) + self.place
        if cells is None or valid is None:
            return self.blocks(tokens)
        return self.blocks(take(tokens, cells), src_key_padding_mask=~valid)  # nobody attends to padding


class Predictor(nn.Module):
    """A narrow transformer: what the encoder says of the context, and the cells of one block -> what is seen there."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(WIDTH, PREDICTOR_WIDTH), nn.Linear(PREDICTOR_WIDTH, WIDTH)
        self.asked = nn.Parameter(torch.zeros(PREDICTOR_WIDTH))  # stands for every cell of the block
        self.blocks = transformer(PREDICTOR_WIDTH, 2)
        self.register_buffer("place", place_codes(grid.side, PREDICTOR_WIDTH))

    def forward(self, context: Tensor, batch: PatchBatch, block: int) -> Tensor:
        """context [B, C, WIDTH] -> [B, T, WIDTH], the cells of target block number `block`."""
        known = self.narrow(context) + self.place[batch.context_cells]
        tokens = torch.cat((known, self.asked + self.place[batch.target_cells[:, block]]), dim=1)
        valid = torch.cat((batch.context_valid, batch.target_valid[:, block]), dim=1)
        return self.widen(self.blocks(tokens, src_key_padding_mask=~valid)[:, known.shape[1] :])


class Jepa(nn.Module):
    """The encoder, its slower copy that sees whole images, and the predictor between them."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.encoder, self.predictor = Encoder(grid), Predictor(grid)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, batch: PatchBatch) -> Tensor:
        """The smooth L1 distance to the standardised features of the teacher, over the real cells of all blocks."""
        with torch.no_grad():
            whole = nn.functional.layer_norm(self.teacher(batch.patches), (WIDTH,))
        context = self.encoder(batch.patches, batch.context_cells, batch.context_valid)
        losses = []
        for block in range(batch.target_cells.shape[1]):
            valid = batch.target_valid[:, block]
            foretold, seen = self.predictor(context, batch, block), take(whole, batch.target_cells[:, block])
            losses.append(nn.functional.smooth_l1_loss(foretold[valid], seen[valid]))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Moves the teacher a little towards the encoder."""
        for slow, fast in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()

    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with PatchLoader(
        options.shards,
        global_batch_size=options.batch,
        seed=1,
        patch_size=4,
        selection="multiblock",
        dtype="float32",
        device=device,
    ) as loader:
        model = Jepa(loader.grid).to(device)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.05)
        steps = options.epochs * len(loader)
        for epoch in range(options.epochs):
            for index, batch in enumerate(loader):
                loss = model(batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                model.follow(0.996 + 0.004 * (epoch * len(loader) + index) / steps)  # at the end it stands still
            shown = batch.context_valid.sum(dim=1).float().mean() / loader.grid.cells
            spread = model.teacher(batch.patches).mean(dim=1).std(dim=0).mean()  # 0: all images have come to look alike
            print(f"epoch {epoch}: loss {loss:.4f}, {shown:.0%} of a picture shown, spread of features {spread:.3f}")


if __name__ == "__main__":
    main()
