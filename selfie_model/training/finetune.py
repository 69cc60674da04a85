"""Finetuning: a whole ResNet-50 on labelled images, its first three stages from a pretraining run or from scratch.

The two arms differ in one thing: whether `source` is given. Everything else, the fresh stage and the classifier's first
weights included, is the same for a seed.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch

from pipelines.batch import BatchLoader, ImageBatch
from selfie_data.errors import RunError
from selfie_model.config import Config
from selfie_model.network.classifier import Classifier
from selfie_model.network.transfer import transfer_patch_network
from selfie_model.training.checkpoint import State, read_run
from selfie_model.training.distributed import Ranks
from selfie_model.training.loop import run_training
from selfie_model.training.precision import check_precision
from selfie_model.training.run_folder import Result, Resume, open_run
from selfie_model.training.stop_request import StopRequest
from selfie_model.training.task import Training

KIND = "finetune"


def finetune(
    config: Config,
    loader: BatchLoader[ImageBatch],
    *,
    class_names: tuple[str, ...],
    out: Path,
    ranks: Ranks,
    source: Path | None = None,
    validation: BatchLoader[ImageBatch] | None = None,
    resume: Resume = "no",
    stop: StopRequest | None = None,
    data: dict[str, Any] | None = None,
    tensorboard: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains a classifier on a loader's labelled images.

    Args:
        config: `model`, `finetune` and `runtime` are used.
        loader: this rank's batches, `config.finetune.batch_size` images a step over all ranks, all with a label.
        class_names: of the labels 0, 1, …
        out: the run's folder.
        ranks: this process.
        source: a pretraining run, whose P the classifier starts from; None = the supervised arm, from scratch.
        validation: evaluation loader of a held-out split of the training set (never the test set: the best checkpoint
            is chosen by it).
        resume, stop, data, tensorboard, quiet: as in `pretrain`.

    Raises:
        RunError: the folder holds another run or one that started from other weights, the source is no pretraining run
            or does not fit, one image a batch gives batch norm one value a channel.
        DivergedError: the loss left all bounds.
    """
    _check_batch_norm(config, ranks)
    check_precision(config, ranks.device, side=config.model.image_size, stages=len(config.model.blocks))
    state = open_run(out, kind=KIND, config=config, resume=resume, ranks=ranks)
    torch.manual_seed(config.finetune.seed)
    model = Classifier(config, len(class_names))
    model.normalise.set(*loader.normalisation)
    start, transferred = {"from": "scratch", "from_sha256": ""}, list[str]()
    if source is not None:
        transferred = start_from(source, model)
        start = {"from": source.resolve().name, "from_sha256": _digest(model, transferred)}
    _check_same_start(out, state, start)
    training = Training(
        kind=KIND,
        config=config,
        train=config.finetune,
        model=model,
        loader=loader,
        validation=validation,
        chance=1 / len(class_names),
        run=out,
        class_names=class_names,
        transferred=tuple(transferred),
        data={**(data or {}), **start},
    )
    return run_training(training, ranks=ranks, resume=state, stop=stop, tensorboard=tensorboard, quiet=quiet)


def start_from(source: Path, model: Classifier) -> list[str]:
    """Gives `model` the P of a pretraining run; returns the keys it set.

    Raises:
        RunError: no pretraining run, or its P does not fit.
    """
    state, _ = read_run(source, kind="pretrain")
    try:
        return transfer_patch_network(state["model"], model)
    except ValueError as error:
        raise RunError(f"{source}: {error}") from error


def _check_batch_norm(config: Config, ranks: Ranks) -> None:
    """Refuses what PyTorch refuses in the first step: statistics over the one value a channel of a 1 x 1 map."""
    train = config.finetune
    shared = config.runtime.sync_batch_norm and ranks.size > 1
    images = train.batch_size // ranks.size // train.accumulate  # of the smallest part
    if images == 1 and config.model.last_side == 1 and train.batch_norm == "train" and not shared:
        raise RunError(
            "batch norm needs two images or more at a time where the last map is 1 x 1, got 1: batch_size "
            f"{train.batch_size}, processes {ranks.size}, accumulate {train.accumulate}; raise --batch-size, lower "
            "--accumulate, or --set finetune.batch_norm=frozen"
        )


def _digest(model: Classifier, keys: list[str]) -> str:
    """Returns the SHA-256 of some of the model's weights: a source stays the same when its folder is renamed."""
    state, digest = model.state_dict(), hashlib.sha256()
    for key in keys:
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_same_start(out: Path, state: State | None, start: dict[str, str]) -> None:
    saved = start if state is None else state["data"]
    if saved.get("from_sha256", start["from_sha256"]) != start["from_sha256"]:
        raise RunError(
            f"{out} started from {saved.get('from')}, not from {start['from']} as it is now; give another --out"
        )


def load_classifier(
    run: Path, *, which: Literal["best", "last", "auto"] = "auto"
) -> tuple[Classifier, Config, tuple[str, ...]]:
    """Returns a finetuning run's model, in evaluation mode on the CPU, its configuration and its class names.

    Raises:
        RunError: no such run, or one of another kind.
    """
    state, config = read_run(run, kind=KIND, which=which)
    class_names = tuple(state["class_names"])
    model = Classifier(config, len(class_names))
    model.load_state_dict(state["model"])
    return model.eval(), config, class_names
