"""Pretraining under PyTorch Lightning; the loader's place is in Lightning's own checkpoints.

    pip install -e '.[examples]' -c constraints.txt
    python examples/lightning_pretrain.py SHARDS [--epochs 2] [--batch 256] [--every 10] [--out lightning]

A run that was killed goes on at the batch after its newest checkpoint, in the middle of an epoch too: give the same
command again. What there is to know about it stands in docs/guides/lightning.md.
"""

import argparse
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from selfie_model import Selfie, presets


class Pretraining(pl.LightningModule):
    """Selfie as a LightningModule; every other model that takes a batch of patches goes the same way."""

    def __init__(self, shards: Path, batch_size: int) -> None:
        super().__init__()
        self.shards, self.batch_size = shards, batch_size
        self.selfie = Selfie(presets.tiny())

    def train_dataloader(self) -> PatchLoader:
        """Lightning calls this when the process group exists and the device is known: the loader takes both."""
        loader = PatchLoader(self.shards, global_batch_size=self.batch_size, seed=1, device=self.device)
        self.selfie.normalise.set(*loader.normalisation)
        return loader

    def training_step(self, batch: PatchBatch, index: int) -> Tensor:
        output = self.selfie(batch)
        self.log("loss", output.loss, batch_size=len(batch))  # said, as Lightning cannot read it off a PatchBatch
        ids = batch.sample_id.tolist()
        print(f"epoch {self.current_epoch} step {index}: loss {output.loss:.6f}, samples {ids[0]} to {ids[-1]}")
        return output.loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--out", type=Path, default=Path("lightning"))
    options = parser.parse_args()

    torch.manual_seed(1)
    checkpoints = ModelCheckpoint(options.out, every_n_train_steps=options.every, save_last=True)
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        callbacks=[checkpoints],
        default_root_dir=options.out,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    newest = options.out / "last.ckpt"
    resume = newest if newest.exists() else None
    trainer.fit(Pretraining(options.shards, options.batch), ckpt_path=resume, weights_only=True)


if __name__ == "__main__":
    main()
