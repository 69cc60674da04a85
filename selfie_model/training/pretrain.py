"""Pretraining: patches in, a P worth finetuning out.

`pretrain` builds Selfie with the seed's weights, trains it, and leaves a run that `finetune`, `embed`, `probe`,
`export` and `report` read; `load_selfie` is how they do it.
"""

from pathlib import Path
from typing import Any, Literal

import torch

from pipelines.batch import BatchLoader, PatchBatch
from selfie_model.config import Config
from selfie_model.network.selfie import Selfie
from selfie_model.training.checkpoint import read_run
from selfie_model.training.distributed import Ranks
from selfie_model.training.loop import run_training
from selfie_model.training.precision import check_precision
from selfie_model.training.run_folder import Result, Resume, open_run
from selfie_model.training.stop_request import StopRequest
from selfie_model.training.task import Training

KIND = "pretrain"


def pretrain(
    config: Config,
    loader: BatchLoader[PatchBatch],
    *,
    out: Path,
    ranks: Ranks,
    validation: BatchLoader[PatchBatch] | None = None,
    resume: Resume = "no",
    stop: StopRequest | None = None,
    data: dict[str, Any] | None = None,
    this_epoch: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains Selfie on a loader's patches.

    Args:
        config: `model`, `pretrain` and `runtime` are used.
        loader: this rank's batches, `config.pretrain.batch_size` images a step over all ranks.
        out: the run's folder.
        ranks: this process.
        validation: evaluation loader of a held-out split; its best accuracy names the best checkpoint.
        resume: `auto` goes on from the newest checkpoint in `out`.
        stop: asked after every step.
        data: what the run learns from, for the record: plain JSON values.
        this_epoch: end with the epoch that is under way.
        tensorboard: also write TensorBoard's files.
        quiet: show no progress.

    Raises:
        RunError: the folder holds another run, or the loader does not fit the configuration.
        DivergedError: the loss left all bounds.
    """
    check_precision(config, ranks.device, side=config.model.patch_size, stages=config.model.patch_stages)
    state = open_run(out, kind=KIND, config=config, resume=resume, ranks=ranks)
    torch.manual_seed(config.pretrain.seed)
    model = Selfie(config)
    model.normalise.set(*loader.normalisation)
    training = Training(
        kind=KIND,
        config=config,
        train=config.pretrain,
        model=model,
        loader=loader,
        validation=validation,
        chance=1 / config.model.target,
        run=out,
        data=data or {},
    )
    return run_training(
        training,
        ranks=ranks,
        resume=state,
        stop=stop,
        this_epoch=this_epoch,
        tensorboard=tensorboard,
        quiet=quiet,
    )


def load_selfie(run: Path, *, which: Literal["best", "last", "auto"] = "auto") -> tuple[Selfie, Config]:
    """Returns a pretraining run's model, in evaluation mode on the CPU, and its configuration.

    Raises:
        RunError: no such run, or one of another kind.
    """
    state, config = read_run(run, kind=KIND, which=which)
    model = Selfie(config)
    model.load_state_dict(state["model"])
    return model.eval(), config
