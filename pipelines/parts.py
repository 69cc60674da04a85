"""From the options of a loader to its parts: what exists, on which device, for which rank. Nothing is built yet."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from pipelines.backends.choose import check_views, choose_backend, make_backend, resolve_device
from pipelines.batch_plan import OutputSpec
from pipelines.normalise import Normalisation, from_statistics
from pipelines.options import ImageLoaderOptions, ImageOptions, OrderOptions
from pipelines.rank import resolve_rank
from pipelines.sampling import draws, order
from pipelines.sampling.augment import Augmentation, resolve_augmentation
from pipelines.sampling.images import ImageDraw
from pipelines.sampling.order import BlockShuffle, EpochOrder, global_shuffle, in_order
from pipelines.sampling.partition import Partition
from pipelines.sampling.subset import Subset, resolve_subset
from pipelines.state import StreamIdentity
from pipelines.stream import Recipe, StreamParts
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pixel_store import check_store
from selfie_data.randomness import permutation

Batch = TypeVar("Batch")

_VERSIONS = f"order {order.VERSION}, permutation {permutation.VERSION}, sampling {draws.VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderParts:
    """Options resolved.

    Attributes:
        options: as given.
        dataset: opened.
        subset: the samples to go through.
        partition: steps, and this rank's slices of them.
        draw: geometry of the images.
        normalisation: the given one, or the dataset's own.
        device: of the batches.
        backend: the name of the one that does the work.
    """

    options: ImageLoaderOptions
    dataset: Dataset
    subset: Subset
    partition: Partition
    draw: ImageDraw
    normalisation: Normalisation
    device: torch.device
    backend: str

    def output_spec(
        self, *, patch_size: int | None = None, patch_count: int = 0, whole_image: bool = True
    ) -> OutputSpec:
        """Returns what the backend is to give."""
        return OutputSpec(
            image_size=self.dataset.image_size,
            batch_size=self.partition.rank_batch_size,
            patch_size=patch_size,
            patch_count=patch_count,
            whole_image=whole_image,
            dtype=self.options.dtype,
            scale=self.normalisation.scale,
            bias=self.normalisation.bias,
            antialias=self.options.antialias,
        )

    def stream(self, recipe: Recipe[Batch]) -> StreamParts[Batch]:
        """Returns the parts of a stream of the recipe's batches."""
        options = self.options
        build = partial(
            make_backend,
            self.backend,
            self.dataset,
            recipe.spec,
            device=self.device,
            verify=options.verify,
            threads=options.threads or len(os.sched_getaffinity(0)),
            prefetch=options.prefetch,
            store=options.store,
        )
        return StreamParts(
            dataset=self.dataset,
            subset=self.subset,
            partition=self.partition,
            order=_order(options, self.subset, self.dataset),
            recipe=recipe,
            identity=_identity(options, self.subset, self.dataset, recipe.describe()),
            make_backend=build,
            prefetch=options.prefetch,
            record=options.record,
        )


def resolve_parts(options: ImageLoaderOptions, *, preset: str) -> LoaderParts:
    """Opens the dataset and settles every default; `augment="auto"` is `preset`, in an evaluation `none`.

    Raises:
        DatasetError: the dataset, store, split or exclusion record is damaged, or the store is another dataset's.
        ValueError: an option does not fit.
    """
    rank, world_size = resolve_rank(options.rank, options.world_size)
    device = resolve_device(options.device)
    backend = choose_backend(options.backend, device, store=options.store)
    dataset = options.shards if isinstance(options.shards, Dataset) else open_dataset(options.shards)
    if options.store is not None:
        check_store(options.store, dataset)
    subset = resolve_subset(dataset, options.subset, options.exclude)
    augmentation = _augmentation(options, dataset.image_size, evaluation=options.evaluation, preset=preset)
    check_views(backend, dataset, augmentation)
    return LoaderParts(
        options=options,
        dataset=dataset,
        subset=subset,
        partition=Partition(
            samples=subset.samples,
            global_batch_size=options.global_batch_size,
            rank=rank,
            world_size=world_size,
            evaluation=options.evaluation,
        ),
        draw=ImageDraw(dataset=dataset, augmentation=augmentation, seed=options.seed, evaluation=options.evaluation),
        normalisation=options.normalisation or from_statistics(dataset.manifest.mean, dataset.manifest.std),
        device=device,
        backend=backend,
    )


def _augmentation(options: ImageOptions, image_size: int, *, evaluation: bool, preset: str) -> Augmentation:
    augment = options.augment
    if augment == "auto":
        augment = "none" if evaluation else preset
    augmentation = resolve_augmentation(augment, image_size)
    if evaluation and augmentation.random:
        raise ValueError(f"an evaluation sees every image as it is, so augment must be 'none', got {augment!r}")
    return augmentation


def _order(options: OrderOptions, subset: Subset, dataset: Dataset) -> Callable[[int], EpochOrder]:
    seed = options.seed
    if options.evaluation:
        return lambda _: in_order
    if options.shuffle == "global":
        return lambda epoch: global_shuffle(subset.samples, seed, epoch)
    counts, shard_window = subset.shard_samples(dataset), options.shuffle
    return lambda epoch: BlockShuffle(shard_samples=counts, shard_window=shard_window, seed=seed, epoch=epoch)


def _identity(options: OrderOptions, subset: Subset, dataset: Dataset, sampling: str) -> StreamIdentity:
    shuffled = "global" if options.shuffle == "global" else f"blocks of {options.shuffle} shards"
    return StreamIdentity(
        fingerprint=dataset.fingerprint,
        subset=subset.digest,
        samples=subset.samples,
        seed=options.seed,
        global_batch_size=options.global_batch_size,
        order="evaluation" if options.evaluation else shuffled,
        sampling=sampling,
        versions=_VERSIONS,
    )
