"""From the options of a loader to its parts: everything is checked here, before any backend is built."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch

from pipelines.arguments import given_normalisation, whole_number
from pipelines.backends.choose import BackendName, check_views, choose_backend, make_backend, resolve_device
from pipelines.batch_plan import TORCH_DTYPE, Dtype, OutputSpec, Verify
from pipelines.normalise import Normalisation, from_statistics
from pipelines.rank import resolve_rank
from pipelines.sampling import draws, order
from pipelines.sampling.augment import Augmentation, resolve_augmentation
from pipelines.sampling.images import ImageDraw
from pipelines.sampling.order import BlockShuffle, EpochOrder, global_shuffle, in_order
from pipelines.sampling.partition import Partition
from pipelines.sampling.subset import Ids, Subset, resolve_subset
from pipelines.state import StreamIdentity
from pipelines.stream import Recipe, StreamParts
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pixel_store import check_store
from selfie_data.randomness import permutation

Shuffle = Literal["global"] | int
OnError = Literal["fail", "record"]
Batch = TypeVar("Batch")

_VERSIONS = f"order {order.VERSION}, permutation {permutation.VERSION}, sampling {draws.VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """What both loaders take; `loader.PatchLoader` says what each means."""

    shards: Path | str | Dataset
    global_batch_size: int
    seed: int
    device: str | torch.device
    backend: BackendName
    subset: Ids
    exclude: Ids
    on_error: OnError
    rank: int | None
    world_size: int | None
    dtype: Dtype
    normalisation: Normalisation | None
    antialias: bool
    shuffle: Shuffle
    evaluation: bool
    verify: Verify
    threads: int | None
    prefetch: int
    store: Path | str | None

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "seed", "prefetch"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.threads is not None:
            object.__setattr__(self, "threads", whole_number("threads", self.threads))
        if self.normalisation is not None:
            object.__setattr__(self, "normalisation", given_normalisation(self.normalisation))
        _one_of("on_error", self.on_error, get_args(OnError))
        _one_of("dtype", self.dtype, tuple(TORCH_DTYPE))
        _one_of("verify", self.verify, get_args(Verify))
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"a seed must be in [0, 2**64), got {self.seed}")
        if self.prefetch < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"prefetch and threads must be at least 1, got {self.prefetch} and {self.threads}")
        if self.shuffle != "global" and (type(self.shuffle) is not int or self.shuffle < 1):
            raise ValueError(f"shuffle must be 'global' or a number of shards >= 1, got {self.shuffle!r}")
        if self.on_error == "record" and self.record is None:
            raise ValueError(
                "on_error='record' needs exclude=PATH.txt, the record to write to and to read at the start"
            )

    @property
    def record(self) -> Path | None:
        """The exclusion record to add to; None if nothing is to be recorded."""
        named = isinstance(self.exclude, str | Path) and Path(self.exclude).suffix == ".txt"
        return Path(str(self.exclude)) if self.on_error == "record" and named else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderParts:
    """The options resolved: what exists, on which device, for which rank."""

    options: LoaderOptions
    dataset: Dataset
    subset: Subset
    partition: Partition
    device: torch.device
    backend: str
    normalisation: Normalisation

    @classmethod
    def resolve(cls, options: LoaderOptions) -> "LoaderParts":
        """Opens the dataset and settles every default.

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
        partition = Partition(
            samples=subset.samples,
            global_batch_size=options.global_batch_size,
            rank=rank,
            world_size=world_size,
            evaluation=options.evaluation,
        )
        manifest = dataset.manifest
        return cls(
            options=options,
            dataset=dataset,
            subset=subset,
            partition=partition,
            device=device,
            backend=backend,
            normalisation=options.normalisation or from_statistics(manifest.mean, manifest.std),
        )

    def image_draw(self, augment: str | Augmentation, *, preset: str) -> ImageDraw:
        """Returns the geometry of the images; `auto` is `preset`, in an evaluation `none`.

        Raises:
            ValueError: an evaluation is to draw, or the pixel store is to give crops that it does not hold.
        """
        if augment == "auto":
            augment = "none" if self.options.evaluation else preset
        augmentation = resolve_augmentation(augment, self.dataset.image_size)
        if self.options.evaluation and augmentation.random:
            raise ValueError(f"an evaluation sees every image as it is, so augment must be 'none', got {augment!r}")
        check_views(self.backend, self.dataset, augmentation)
        return ImageDraw(
            dataset=self.dataset,
            augmentation=augmentation,
            seed=self.options.seed,
            evaluation=self.options.evaluation,
        )

    def output_spec(self, *, patch_size: int | None, patch_count: int, whole_image: bool) -> OutputSpec:
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

    def stream(self, recipe: Recipe[Batch], spec: OutputSpec, sampling: str) -> StreamParts[Batch]:
        """Returns the parts of a stream of the recipe's batches."""
        options = self.options
        build = partial(
            make_backend,
            self.backend,
            self.dataset,
            spec,
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
            order=self._order(),
            recipe=recipe,
            identity=self._identity(sampling),
            make_backend=build,
            prefetch=options.prefetch,
            record=options.record,
        )

    def _order(self) -> Callable[[int], EpochOrder]:
        options, samples = self.options, self.subset.samples
        if options.evaluation:
            return lambda _: in_order
        if options.shuffle == "global":
            return lambda epoch: global_shuffle(samples, options.seed, epoch)
        counts, window = self.subset.shard_samples(self.dataset), options.shuffle
        return lambda epoch: BlockShuffle(shard_samples=counts, window=window, seed=options.seed, epoch=epoch)

    def _identity(self, sampling: str) -> StreamIdentity:
        options = self.options
        shuffled = "global" if options.shuffle == "global" else f"blocks of {options.shuffle} shards"
        return StreamIdentity(
            fingerprint=self.dataset.fingerprint,
            subset=self.subset.digest,
            samples=self.subset.samples,
            seed=options.seed,
            global_batch_size=options.global_batch_size,
            order="evaluation" if options.evaluation else shuffled,
            sampling=sampling,
            versions=_VERSIONS,
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
