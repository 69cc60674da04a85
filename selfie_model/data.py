"""The loaders of a training or an evaluation, made from a configuration and a dataset of shards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.manifest import Manifest, root_name
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.read import stored_at_size
from selfie_data.errors import DatasetError
from selfie_data.images.resize import shorter_side
from selfie_data.storage.place import Place
from selfie_model.config import Config, TrainConfig

if TYPE_CHECKING:
    from pipelines.loader import ImageLoader, PatchLoader
    from pipelines.sampling.augment import Augmentation
    from pipelines.sampling.subset import Ids

HELD_OUT = "validation"  # the split that `selfie-data split` holds out


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """Which samples are read, where and how; what is learned from them is the configuration's.

    Attributes:
        device: `auto`, `cpu` or `cuda`, also of the model.
        backend: of the loader, `auto` to let it choose.
        decode: of the backend `gpu`, as the loaders take it.
        threads: of the loader; 0 = its default.
        store: pixel store to hold in memory instead of reading shards; None = read shards.
        exclude, on_error, shuffle, lanes, verify, dtype: as the loaders take them; the order is for training only.
        follow: go on with what the dataset has become, from the next epoch on.
    """

    device: str = "auto"
    backend: str = "auto"
    decode: str = "mixed"
    threads: int = 0
    store: Path | None = None
    exclude: Path | None = None
    on_error: str = "fail"
    follow: bool = False
    shuffle: str | int | None = None
    lanes: int | None = None
    verify: str = "first"
    dtype: str = "uint8"

    def keywords(self, train: TrainConfig, *, evaluation: bool) -> dict[str, Any]:
        """Returns the keywords of a loader for one training."""
        return {
            "global_batch_size": train.batch_size,
            "seed": train.seed,
            "shuffle": None if evaluation else self.shuffle,
            "lanes": None if evaluation else self.lanes,
            "evaluation": evaluation,
            "augment": "none" if evaluation else augmentation(train),
            "threads": self.threads or None,
            **{name: getattr(self, name) for name in ("device", "backend", "decode", "store", "exclude", "on_error")},
            "follow": self.follow,
            **{name: getattr(self, name) for name in ("verify", "dtype")},
        }


def open_shards(path: Place, config: Config, *, fingerprint: str = "") -> Dataset:
    """Opens a dataset and checks that its images have the model's size; with `fingerprint`, as it was.

    Raises:
        DatasetError: missing or damaged.
        click.UsageError: another image size.
    """
    dataset = open_dataset(path, fingerprint=fingerprint)
    if dataset.image_size != config.model.image_size:
        raise click.UsageError(
            f"{path} holds images of {dataset.image_size} px, the model is for {config.model.image_size}: choose "
            "another --preset, or build shards with another --size"
        )
    return dataset


def check_classes(dataset: Dataset) -> None:
    """Refuses a dataset that no classifier can be trained on; DatasetError."""
    if (count := len(dataset.class_names)) < 2:
        raise DatasetError(
            f"{dataset.path}: a classifier needs two classes or more, got {count}; build from a source that has them"
        )


def unlabelled(dataset: Dataset, subset: str | None) -> tuple[int, int]:
    """Returns how many images of a subset have no label, and how many there are."""
    labels = dataset.table.label[subset_ids(dataset, subset)]
    return int((labels < 0).sum()), len(labels)


def check_labels(dataset: Dataset, subset: str | None) -> None:
    """Refuses images without a label, and a dataset of fewer than two classes.

    Raises:
        click.UsageError: an image of `subset` has no label.
        DatasetError: fewer than two classes, or no such subset.
    """
    missing, images = unlabelled(dataset, subset)
    if missing:
        remedy = "name a labelled split (`selfie-data split`)" if dataset.class_names else "build it from class folders"
        raise click.UsageError(f"{missing} of {images} images of {dataset.path} have no label: {remedy}")
    check_classes(dataset)


def open_for_run(path: Place, config: Config, run: Path, *, resume: str, follow: bool = False) -> list[Dataset]:
    """Returns the datasets that a run goes through: what it began with or, to follow, also what that is now.

    With two, the epoch that was begun is finished on the first.

    Args:
        path: of the dataset.
        config: of the run.
        run: its folder.
        resume: "auto" where it may have begun.
        follow: whether it is to go on with what the dataset is now.

    Raises:
        DatasetError: it is missing or damaged, or nothing is kept of what the run began with.
    """
    from selfie_model.training.checkpoint import newest_place

    present = open_shards(path, config)
    ancestors = {each.fingerprint for each in present.manifest.lineage}
    place = newest_place(run) if resume == "auto" and ancestors else None
    if place is None or place.get("fingerprint") not in ancestors:
        return [present]
    was = str(place["fingerprint"])
    gone = follow and not (present.path / root_name(was)).exists()  # the loader says so
    if follow and (gone or place.get("step") == 0):
        return [present]
    before = open_shards(path, config, fingerprint=was)
    return [before, present] if follow else [before]


def tell_kept(datasets: Sequence[Dataset]) -> None:
    """Says on stderr when a run goes on with what its dataset was."""
    last = datasets[-1]
    present = Manifest.load(last.path)
    if present.fingerprint != last.fingerprint:
        counts = f"{last.manifest.live:,} samples then, {present.live:,} now"
        click.echo(
            f"{last.path}: has changed since the run began ({counts}); the run goes on with what it began with; "
            "a pretraining moves to what it is now by --follow",
            err=True,
        )


def has_split(dataset: Dataset, name: str) -> bool:
    """Tells whether `selfie-data split` has made the split `name`."""
    return (dataset.path / "splits" / f"{name}.npy").exists()


def patch_loader(
    dataset: Dataset, config: Config, loading: LoaderOptions, *, subset: "Ids" = None, evaluation: bool = False
) -> "PatchLoader":
    """Returns this rank's loader of patches: shuffled and augmented, or in order with masks that never change."""
    from pipelines.loader import PatchLoader

    with _usage_errors():
        return PatchLoader(
            dataset,
            subset=subset,
            patch_size=config.model.patch_size,
            context=config.model.context,
            target=config.model.target,
            masking=config.model.masking,
            **loading.keywords(config.pretrain, evaluation=evaluation),
        )


def image_loader(
    dataset: Dataset, config: Config, loading: LoaderOptions, *, subset: "Ids" = None, evaluation: bool = False
) -> "ImageLoader":
    """Returns this rank's loader of labelled images: shuffled and augmented, or all of them in order."""
    from pipelines.loader import ImageLoader

    with _usage_errors():
        return ImageLoader(dataset, subset=subset, **loading.keywords(config.finetune, evaluation=evaluation))


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


def describe(dataset: Dataset, subset: str | None, exclude: Path | None = None) -> dict[str, Any]:
    """Returns what a run records of its data."""
    samples = len(subset_ids(dataset, subset, exclude))
    seen = shorter_side_seen(dataset)
    return {"fingerprint": dataset.fingerprint, "subset": subset or "all", "samples": samples, "resize": seen}


def shorter_side_seen(dataset: Dataset) -> int:
    """Returns the shorter side, in pixels, that an image has when evaluation crops its centre."""
    return dataset.image_size if stored_at_size(dataset) else shorter_side(dataset.image_size)


def subset_ids(dataset: Dataset, subset: str | None, exclude: Path | None = None) -> NDArray[np.int64]:
    """Returns the sample ids of `--subset`, a named split or an .npy file (None: all), without those of `--exclude`.

    Raises:
        DatasetError: no such split or file.
        click.UsageError: not distinct ids of the dataset, or none is left.
    """
    from pipelines.sampling.subset import resolve_subset

    with _usage_errors():
        found = resolve_subset(dataset, subset, exclude)
    return found.sample_ids(np.arange(found.samples))


def check_held_out(dataset: Dataset, subset: str | None, *, instead: str = "add --no-validation") -> None:
    """Refuses to learn from images of the split that is then measured; `instead` is what else the user can do.

    Raises:
        click.UsageError: `subset` has images of the split `validation`.
    """
    held_out = dataset.subset(HELD_OUT)
    shared = int(np.isin(subset_ids(dataset, subset), held_out).sum())
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
