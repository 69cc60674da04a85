"""Pretraining under Hugging Face Accelerate; the loader's place is in Accelerate's own checkpoints.

    pip install -e '.[examples]' -c constraints.txt
    python examples/accelerate_pretrain.py SHARDS [--epochs 2] [--batch 256] [--every 10] [--out accelerate]
    accelerate launch examples/accelerate_pretrain.py SHARDS        # several processes

A run that was killed goes on at the batch after its newest checkpoint, in the middle of an epoch too: give the same
command again. What there is to know about it stands in docs/guides/accelerate.md.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator

from pipelines import PatchLoader
from selfie_model import Selfie, presets


def save(accelerator: Accelerator, loader: PatchLoader, folder: Path) -> None:
    """Writes a checkpoint beside its place and renames it, so that a kill leaves the old one or the new one."""
    partial = folder.with_name(f"{folder.name}.partial")
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / "loader.json").write_text(json.dumps(loader.state_dict()))  # the same for every process
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    accelerator.wait_for_everyone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--out", type=Path, default=Path("accelerate"))
    options = parser.parse_args()

    torch.manual_seed(1)
    accelerator = Accelerator()  # first: the process group that the loader takes its rank from
    loader = PatchLoader(options.shards, global_batch_size=options.batch, seed=1, device=accelerator.device)
    model = Selfie(presets.tiny())
    model.normalise.set(*loader.normalisation)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    model, optimizer = accelerator.prepare(model, optimizer)  # not the loader: it shards and moves batches itself

    newest = options.out / "newest"
    if newest.exists():
        accelerator.load_state(str(newest))
        loader.load_state_dict(json.loads((newest / "loader.json").read_text()))
    place = loader.state_dict()
    step = place["step"]
    for epoch in range(place["epoch"], options.epochs):
        loader.set_epoch(epoch)  # from its start, or from the step that was loaded
        for batch in loader:
            output = model(batch)
            optimizer.zero_grad()
            accelerator.backward(output.loss)
            optimizer.step()
            ids = batch.sample_id.tolist()
            print(f"epoch {epoch} step {step}: loss {output.loss:.6f}, samples {ids[0]} to {ids[-1]}", flush=True)
            step += 1
            if step % options.every == 0:
                save(accelerator, loader, newest)
        step = 0
    accelerator.end_training()
    loader.close()


if __name__ == "__main__":
    main()
