"""A plain PyTorch loop over shards: epochs, a checkpoint after every one, and an exact resume.

    python examples/train_loop.py SHARDS [--epochs 2] [--batch 64] [--checkpoint run.pt]

The toy network is there so that the file runs as it is; put your own in its place. The loader is the five marked lines.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines import PatchLoader


class ToyNetwork(nn.Module):
    """Scores how well each target patch fits the image that the context patches come from."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * patch_size * patch_size, 64)

    def forward(self, context: Tensor, target: Tensor) -> Tensor:
        """context [B, C, p, p, 3] and target [B, T, p, p, 3] as floats -> logits [B, T]."""
        image = self.embed(context.flatten(2)).mean(dim=1)
        return torch.einsum("bd,btd->bt", image, self.embed(target.flatten(2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--checkpoint", type=Path, default=Path("run.pt"))
    options = parser.parse_args()

    torch.manual_seed(1)
    with PatchLoader(options.shards, global_batch_size=options.batch, seed=1, dtype="float32") as loader:  # 1
        network = ToyNetwork(loader.grid.patch_size)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        if options.checkpoint.exists():
            saved = torch.load(options.checkpoint, weights_only=True)
            network.load_state_dict(saved["network"])
            loader.load_state_dict(saved["loader"])  # 2
        start = loader.state_dict()["epoch"]
        for epoch in range(int(start), options.epochs):
            loader.set_epoch(epoch)  # 3
            for batch in loader:  # 4
                logits = network(batch.context, batch.target)
                loss = nn.functional.cross_entropy(logits, torch.zeros(len(batch), dtype=torch.int64))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            saved = {"network": network.state_dict(), "loader": loader.state_dict()}  # 5
            torch.save(saved, options.checkpoint)
            print(f"epoch {epoch}: {len(loader)} steps, loss {loss.item():.4f}, left out {loader.remainder.size}")


if __name__ == "__main__":
    main()
