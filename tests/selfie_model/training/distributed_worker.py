"""What one of two processes does in `test_distributed`: `torchrun … distributed_worker.py OUT`."""

import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.batch import BatchLoader, PatchBatch
from selfie_data.errors import RunError
from selfie_model.config import Config
from selfie_model.network.selfie import Selfie
from selfie_model.training import loop
from selfie_model.training.checkpoint import find_checkpoint, read_checkpoint
from selfie_model.training.distributed import Ranks, SharedFlag, distribute, process_group
from selfie_model.training.evaluate import evaluate
from selfie_model.training.finetune import finetune, load_classifier
from selfie_model.training.pretrain import pretrain
from selfie_model.training.stop_request import StopRequest
from tests.selfie_model.memory import MemoryLoader, patch_batch, random_images, small_config

NAMES = ("cat", "dog", "frog")
SCENARIOS: dict[str, Sequence[float]] = {"equal": (0, 0.5, 1), "unequal": (0, 0.25, 1)}


def frozen_config() -> Config:
    """What makes slices of a batch add up: no dropout, no batch statistics."""
    frozen = {"batch_norm": "frozen"}
    return small_config(dropout=0.0).override(pretrain=frozen, finetune=frozen)


def train_both(out: Path, ranks: Ranks, cuts: Sequence[float]) -> None:
    """One pretraining and one finetuning, this rank on its slice."""
    config = frozen_config()
    bounds = (cuts[ranks.rank], cuts[ranks.rank + 1])
    images, labels = random_images(40)
    patches = MemoryLoader(images, labels, batch_size=8, model=config.model, bounds=bounds)
    pretrain(config, patches, out=out / "pretrain", ranks=ranks, quiet=True)
    whole = MemoryLoader(images, labels, batch_size=8, model=None, bounds=bounds)
    config = config.override(finetune={"accumulate": 2})
    finetune(config, whole, class_names=NAMES, out=out / "finetune", ranks=ranks, quiet=True)


class StopOn(StopRequest):
    """A signal that reaches rank 1 only."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        if ranks.rank == 1:
            self.reason = "SIGTERM"


def check_own_statistics(ranks: Ranks) -> None:
    """After two forward passes a rank has the batch-norm statistics of its own batches, as if it were alone."""
    config = small_config()
    torch.manual_seed(0)
    alone = Selfie(config)
    shared = copy.deepcopy(alone)
    wrapped = distribute(shared, ranks, sync_batch_norm=False).train()
    alone.train()
    for step in range(2):
        batch = patch_batch(config, seed=10 * ranks.rank + step)
        wrapped(batch).loss.backward()
        alone(batch)
    for (name, found), expected in zip(shared.named_buffers(), alone.buffers(), strict=True):
        assert torch.equal(found, expected), name


def check_who_begins_again(out: Path, config: Config, patches: BatchLoader[PatchBatch], ranks: Ranks) -> None:
    """Where torchrun may begin again, a rank that was not asked itself ends with an error, everything saved."""
    os.environ["TORCHELASTIC_MAX_RESTARTS"], loop._OWN_SIGNAL_S = "1", 0.1
    message = ""
    try:
        pretrain(config, patches, out=out, ranks=ranks, stop=StopOn(ranks), quiet=True)
    except RunError as error:
        message = str(error)
    finally:
        os.environ["TORCHELASTIC_MAX_RESTARTS"] = "0"
    assert ("all did, and step 2 is saved; nobody asked this one" in message) == (ranks.rank == 0)
    if ranks.writes:
        assert read_checkpoint(find_checkpoint(out))["step"] == 2


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with process_group("cpu") as ranks:
        check_own_statistics(ranks)
        assert ranks.size == 2
        flag = SharedFlag(ranks)
        raised = [flag.exchange(step == 1 and ranks.rank == 1) for step in range(4)]
        assert raised == [False, False, True, False]
        flag.close()
        for name, cuts in SCENARIOS.items():
            train_both(out / name, ranks, cuts)
        config = small_config()
        half = (ranks.rank / 2, ranks.rank / 2 + 0.5)
        patches = MemoryLoader(*random_images(40), batch_size=8, model=config.model, bounds=half)
        result = pretrain(config, patches, out=out / "stopped", ranks=ranks, stop=StopOn(ranks), quiet=True)
        (out / f"stopped-{ranks.rank}").write_text(str(result.step))
        check_who_begins_again(out / "left", config, patches, ranks)
        train = MemoryLoader(*random_images(40), batch_size=8, model=None, bounds=half)
        held_out = MemoryLoader(*random_images(23), batch_size=8, model=None, evaluation=True, bounds=half)
        run = out / "validated"
        finetune(config, train, class_names=NAMES, out=run, ranks=ranks, validation=held_out, quiet=True)
        model, loaded, _ = load_classifier(out / "equal/finetune")
        part = MemoryLoader(*random_images(23), batch_size=8, model=None, evaluation=True, bounds=half)
        metrics = evaluate(model, part, ranks=ranks, runtime=loaded.runtime)
        (out / f"metrics-{ranks.rank}").write_text(repr(metrics))
    # A thread of gloo that outlives the group may abort the process when the interpreter ends.
    assert not [name for name in native_threads() if "gloo" in name]


def native_threads() -> list[str]:
    """Returns the names of this process's threads, those that Python does not know included."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
