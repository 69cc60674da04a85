"""`selfie-model finetune`: labelled shards and a pretraining run (or nothing) in, a classifier out."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.opened import Dataset
from selfie_data.storage.place import Place
from selfie_model.commands.configuration import configuration_options, resolve_config
from selfie_model.commands.loading import loader_options, training_loader_options
from selfie_model.commands.running import print_result, run_options, tell_unfinished, with_order_of
from selfie_model.config import Config
from selfie_model.data import (
    HELD_OUT,
    LoaderOptions,
    check_held_out,
    check_labels,
    describe,
    has_split,
    image_loader,
    open_for_run,
    tell_kept,
)

SCRATCH = "scratch"
_SHARE = re.compile(r"\d+(\.\d+)?")


@click.command("finetune")
@click.argument("shards", type=PlaceArgument())
@click.option(
    "--from",
    "source_run",
    required=True,
    metavar="RUN|scratch",
    help="Pretraining run whose P to start from; scratch = the supervised arm, in the same code.",
)
@click.option(
    "--labelled",
    metavar="PERCENT",
    help="Share of the labels to learn from, e.g. 5%, rounded to whole images a class.  [default: all]",
)
@configuration_options
@click.option("--subset", help="Named split or .npy file of ids to learn from, instead of --labelled.")
@click.option(
    "--validation/--no-validation",
    default=None,
    help="Hold out the split `validation` and keep the best checkpoint on it; the labels then come from the rest "
    "(train-P), otherwise from everything (all-P).  [default: if SHARDS has splits]",
)
@run_options
@training_loader_options
@loader_options
def command(
    shards: Place,
    source_run: str,
    labelled: str | None,
    out: Path,
    subset: str | None,
    validation: bool | None,
    resume: str,
    time_limit: float,
    sync_batch_norm: bool,
    tensorboard: bool,
    quiet: bool,
    loading: LoaderOptions,
    **configuration: Any,
) -> None:
    """Trains a classifier on the labelled images of SHARDS, from a pretraining run or from scratch.

    \b
    selfie-model finetune SHARDS --from RUN --labelled 5% --out RUN2
    selfie-model finetune SHARDS --from scratch --preset cifar10 --labelled 5% --out RUN3

    Nothing is chosen on a test set: measure there once, with `selfie-model evaluate`.
    """
    from selfie_model.training.distributed import process_group
    from selfie_model.training.finetune import finetune
    from selfie_model.training.stop_request import StopRequest

    start = None if source_run == SCRATCH else Path(source_run)
    config = resolve_config("finetune", base=_config_of(start), **configuration)
    if sync_batch_norm:
        config = config.override(runtime={"sync_batch_norm": True})
    (dataset,) = open_for_run(shards, config, out, resume=resume)
    dataset.refuse_inside(out)
    if validation is None:
        validation = has_split(dataset, HELD_OUT)
    subset = choose_subset(dataset, labelled=labelled, subset=subset, validation=validation)
    if validation:
        check_held_out(dataset, subset)
    loading = with_order_of(out, loading, resume=resume)
    with process_group(loading.device) as ranks, StopRequest(time_limit_s=60 * time_limit) as stop:
        if ranks.writes:
            tell_kept([dataset])
            if start is not None:
                tell_unfinished(start)
        with closing(image_loader(dataset, config, loading, subset=subset)) as loader:
            held_out = image_loader(dataset, config, loading, subset=HELD_OUT, evaluation=True) if validation else None
            result = finetune(
                config,
                loader,
                class_names=dataset.class_names,
                out=out,
                ranks=ranks,
                source=start,
                validation=held_out,
                resume="auto" if resume == "auto" else "no",
                stop=stop,
                data={**describe(dataset, subset, loading.exclude), "order": loader.order},
                tensorboard=tensorboard,
                quiet=quiet,
            )
            if held_out is not None:
                held_out.close()
        if ranks.writes:
            print_result(result, out, chance=1 / len(dataset.class_names))


def choose_subset(dataset: Dataset, *, labelled: str | None, subset: str | None, validation: bool) -> str | None:
    """Returns the split to learn from, None for every sample.

    Raises:
        click.UsageError: both ways of naming it are used, or the chosen samples have no labels.
        DatasetError: labels of one class only.
    """
    if labelled is not None and subset is not None:
        raise click.UsageError("give --labelled or --subset, not both")
    if subset is None and (labelled is not None or validation):
        share = ("100" if labelled is None else labelled).strip().removesuffix("%").strip()
        if not _SHARE.fullmatch(share):
            raise click.UsageError(f"--labelled takes a percentage such as 5% or 2.5%, got {labelled!r}")
        subset = f"{'train' if validation else 'all'}-{share}"
    check_labels(dataset, subset)
    return subset


def _config_of(run: Path | None) -> Config | None:
    from selfie_model.training.checkpoint import read_run

    return None if run is None else read_run(run, kind="pretrain")[1]
