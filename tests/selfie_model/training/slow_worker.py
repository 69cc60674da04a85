"""What one of two processes does while `test_distributed` sends a signal: `torchrun … slow_worker.py OUT`.

OUT/steps gets a line at the beginning of every step of rank 0; OUT/pid-RANK says whom a signal can reach.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pipelines.batch import PatchBatch
from selfie_model.training.distributed import process_group
from selfie_model.training.pretrain import pretrain
from selfie_model.training.stop_request import StopRequest
from tests.selfie_model.memory import MemoryLoader, random_images, small_config

STEP_S = 0.5


class SlowLoader(MemoryLoader):
    """Takes its time before every batch, and writes down that it was asked."""

    record: Path | None = None

    def __iter__(self) -> Iterator[PatchBatch]:
        for batch in super().__iter__():
            if self.record is not None:
                with self.record.open("a") as file:
                    file.write("step\n")
            time.sleep(STEP_S)
            yield batch


def main(out: Path) -> None:
    torch.set_num_threads(1)
    config = small_config().override(pretrain={"steps": 500}, runtime={"log_every": 500, "checkpoint_every": 0})
    with process_group("cpu") as ranks, StopRequest() as stop:
        (out / f"pid-{ranks.rank}").write_text(str(os.getpid()))
        half = (ranks.rank / 2, ranks.rank / 2 + 0.5)
        loader = SlowLoader(*random_images(40), batch_size=8, model=config.model, bounds=half)
        loader.record = out / "steps" if ranks.writes else None
        pretrain(config, loader, out=out / "run", ranks=ranks, stop=stop, quiet=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
