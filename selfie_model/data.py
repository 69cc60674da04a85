"""The loaders of a training or an evaluation, made from a configuration and a dataset of shards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_model.config import Config, TrainConfig

if TYPE_CHECKING:
    from pipelines.loader import ImageLoader, PatchLoader
    from pipelines.sampling.augment import Augmentation
    from pipelines.sampling.subset import Ids

Command = TypeVar("Command", bound=Callable[..., Any])
HELD_OUT = "validation"  # the split that `selfie-data split` holds out


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where and how batches are read; none of it changes what is in them.

    Attributes:
        device: `auto`, `cpu` or `cuda`, also of the model.
        backend: of the loader, `auto` to let it choose.
        threads: of the loader; 0 = its default.
        store: pixel store to hold in memory instead of reading shards; None = read shards.
    """

    device: str = "auto"
    backend: str = "auto"
    threads: int = 0
    store: Path | None = None


def source_options(function: Command) -> Command:
    """Adds the options that make a `Source`: device, backend, threads, store."""
    options = [
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to compute; auto = a GPU if there is one.",
        ),
        click.option(
            "--backend",
            type=click.Choice(["auto", "cpu", "fused", "dali", "store", "reference"]),
            default="auto",
            show_default=True,
            help="How batches are made; all give the same ones.",
        ),
        click.option("--threads", type=click.IntRange(min=0), default=0, help="Of the loader; 0 = all cores."),
        click.option(
            "--store",
            type=click.Path(path_type=Path, exists=True),
            help="Pixel store to hold in memory (selfie-data export-store).",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def open_shards(path: Path, config: Config) -> Dataset:
    """Opens a dataset and checks that its images have the model's size.

    Raises:
        DatasetError: missing or damaged.
        click.UsageError: another image size.
    """
    dataset = open_dataset(path)
    if dataset.image_size != config.model.image_size:
        raise click.UsageError(
            f"{path} holds images of {dataset.image_size} px, the model is for {config.model.image_size}: choose "
            "another --preset, or build shards with another --size"
        )
    return dataset


def has_split(dataset: Dataset, name: str) -> bool:
    """Tells whether `selfie-data split` has made the split `name`."""
    return (dataset.path / "splits" / f"{name}.npy").exists()


def patch_loader(
    dataset: Dataset, config: Config, source: Source, *, subset: "Ids" = None, evaluation: bool = False
) -> "PatchLoader":
    """Returns this rank's loader of patches: shuffled and augmented, or in order with masks that never change."""
    from pipelines.loader import PatchLoader

    with _usage_errors():
        return PatchLoader(
            dataset,
            global_batch_size=config.pretrain.batch_size,
            seed=config.pretrain.seed,
            device=source.device,
            backend=source.backend,  # type: ignore[arg-type]  # click has checked the choice
            subset=subset,
            patch_size=config.model.patch_size,
            context=config.model.context,
            target=config.model.target,
            masking=config.model.masking,
            augment="none" if evaluation else augmentation(config.pretrain),
            evaluation=evaluation,
            threads=source.threads or None,
            store=source.store,
        )


def image_loader(
    dataset: Dataset, config: Config, source: Source, *, subset: "Ids" = None, evaluation: bool = False
) -> "ImageLoader":
    """Returns this rank's loader of labelled images: shuffled and augmented, or all of them in order."""
    from pipelines.loader import ImageLoader

    with _usage_errors():
        return ImageLoader(
            dataset,
            global_batch_size=config.finetune.batch_size,
            seed=config.finetune.seed,
            device=source.device,
            backend=source.backend,  # type: ignore[arg-type]  # click has checked the choice
            subset=subset,
            augment="none" if evaluation else augmentation(config.finetune),
            evaluation=evaluation,
            threads=source.threads or None,
            store=source.store,
        )


def augmentation(train: TrainConfig) -> "Augmentation":
    """Returns what the loaders call the configuration's augmentation."""
    from pipelines.sampling.augment import Augmentation

    match train.augmentation:
        case "none":
            return Augmentation()
        case "flip":
            return Augmentation(flip=True)
        case "crop_flip":
            return Augmentation(flip=True, crop_area=(train.crop_area_min, 1.0))
        case "padded_crop_flip":
            return Augmentation(flip=True, padding=4)


def describe(dataset: Dataset, subset: str | None) -> dict[str, Any]:
    """Returns what a run records of its data."""
    samples = len(dataset) if subset is None else len(subset_ids(dataset, subset))
    return {"fingerprint": dataset.fingerprint, "subset": subset or "all", "samples": samples}


def subset_ids(dataset: Dataset, subset: str) -> NDArray[np.int64]:
    """Returns the sample ids of `--subset`: a named split or an .npy file.

    Raises:
        DatasetError: no such split or file.
        click.UsageError: not distinct ids of the dataset.
    """
    from pipelines.sampling.subset import resolve_subset

    with _usage_errors():
        found = resolve_subset(dataset, subset)
    return np.arange(len(dataset)) if found.ids is None else found.ids


def check_held_out(dataset: Dataset, subset: str | None, *, instead: str = "add --no-validation") -> None:
    """Refuses to learn from images of the split that is then measured; `instead` is what else the user can do.

    Raises:
        click.UsageError: `subset` has images of the split `validation`.
    """
    held_out = dataset.subset(HELD_OUT)
    shared = len(held_out) if subset is None else int(np.isin(subset_ids(dataset, subset), held_out).sum())
    if shared:
        raise click.UsageError(
            f"{shared} of the images to learn from are in the split {HELD_OUT}: name a subset of the split train, or "
            f"{instead}"
        )


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Wrong options of a loader are wrong options of the command: one line, exit 2."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error
