"""`selfie-model pretrain`: shards in, a pretraining run out."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.storage.place import Place
from selfie_model.commands.configuration import configuration_options, resolve_config
from selfie_model.commands.loading import loader_options, training_loader_options
from selfie_model.commands.running import print_result, run_options, with_order_of
from selfie_model.data import HELD_OUT, LoaderOptions, check_held_out, describe, open_for_run, patch_loader, tell_kept


@click.command("pretrain")
@click.argument("shards", type=PlaceArgument())
@configuration_options
@click.option("--subset", help="Named split or .npy file of ids to learn from.  [default: every sample]")
@click.option(
    "--validation/--no-validation",
    default=False,
    help="Hold out the split `validation`: learn from `train`, keep the best checkpoint.  [default: no]",
)
@run_options
@click.option(
    "--follow",
    is_flag=True,
    help="Go on with what SHARDS has become since the run began (extended, samples dropped), from the next epoch on.",
)
@training_loader_options
@loader_options
def command(
    shards: Place,
    out: Path,
    subset: str | None,
    validation: bool,
    resume: str,
    time_limit: float,
    sync_batch_norm: bool,
    tensorboard: bool,
    quiet: bool,
    loading: LoaderOptions,
    **configuration: Any,
) -> None:
    """Pretrains on the images of SHARDS without their labels.

    \b
    selfie-model pretrain SHARDS --preset cifar10 --out RUN
    torchrun --nproc-per-node 8 -m selfie_model.cli pretrain SHARDS --preset imagenet224 --out RUN
    """
    from selfie_model.training.distributed import process_group
    from selfie_model.training.pretrain import pretrain
    from selfie_model.training.stop_request import StopRequest

    config = resolve_config("pretrain", **configuration)
    if sync_batch_norm:
        config = config.override(runtime={"sync_batch_norm": True})
    datasets = open_for_run(shards, config, out, resume=resume, follow=loading.follow)
    datasets[-1].refuse_inside(out)
    if subset is None and validation:
        subset = "train"
    if validation:
        for dataset in datasets:
            check_held_out(dataset, subset)
    loading = with_order_of(out, loading, resume=resume)
    with process_group(loading.device) as ranks, StopRequest(time_limit_s=60 * time_limit) as stop:
        if ranks.writes:
            tell_kept(datasets)
        for dataset in datasets:  # of two, the first to the end of its epoch
            with closing(patch_loader(dataset, config, loading, subset=subset)) as loader:
                held_out = (
                    patch_loader(dataset, config, loading, subset=HELD_OUT, evaluation=True) if validation else None
                )
                result = pretrain(
                    config,
                    loader,
                    out=out,
                    ranks=ranks,
                    validation=held_out,
                    resume="auto" if resume == "auto" else "no",
                    stop=stop,
                    data={**describe(dataset, subset, loading.exclude), "order": loader.order},
                    this_epoch=dataset is not datasets[-1],
                    tensorboard=tensorboard,
                    quiet=quiet,
                )
                if held_out is not None:
                    held_out.close()
            if result.stopped_by:
                break
        if ranks.writes:
            print_result(result, out, chance=1 / config.model.target)
