"""From the options of a loader to its parts: what exists, on which device, for which rank. Nothing is built yet."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipelines.backends.choose import check_views, choose_backend, make_backend, resolve_device
from pipelines.batch_plan import Backend, OutputSpec
from pipelines.normalise import Normalisation, from_statistics
from pipelines.options import ImageLoaderOptions
from pipelines.rank import own_cores, resolve_rank
from pipelines.readahead import Readahead
from pipelines.sampling import draws, order
from pipelines.sampling.augment import Augmentation, ImageDraw, resolve_augmentation
from pipelines.sampling.lanes import LaneShuffle
from pipelines.sampling.order import BlockShuffle, EpochOrder, global_shuffle, in_order
from pipelines.sampling.partition import Partition
from pipelines.sampling.reads import ShardUse, block_reads, global_reads, ordered_reads
from pipelines.sampling.subset import Subset, resolve_subset
from pipelines.state import StreamIdentity
from selfie_data.cache.home import cache_home
from selfie_data.cache.shard_cache import ShardCache
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pixel_store import check_store
from selfie_data.randomness import permutation
from selfie_data.storage.place import storage_of

_VERSIONS = f"order {order.VERSION}, permutation {permutation.VERSION}, sampling {draws.VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderParts:
    """Options resolved.

    Attributes:
        options: as given.
        dataset: opened.
        subset: the samples to go through.
        lanes: the lanes of their order; None = another order.
        readahead: of the shards, which are its dataset's then; None where they lie in a folder or are not read.
        partition: steps, and this rank's slices of them.
        draw: geometry of the images.
        normalisation: the given one, or the dataset's own.
        device: of the batches.
        backend: the name of the one that does the work.
    """

    options: ImageLoaderOptions
    dataset: Dataset
    subset: Subset
    lanes: LaneShuffle | None
    readahead: Readahead | None
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

    def make_backend(self, spec: OutputSpec) -> Backend:
        """Returns a running backend that gives what `spec` says."""
        options = self.options
        return make_backend(
            self.backend,
            self.dataset,
            spec,
            device=self.device,
            verify=options.verify,
            threads=options.threads or own_cores(),
            prefetch=options.prefetch,
            decode=options.decode,
            store=options.store,
        )

    def order(self, epoch: int) -> EpochOrder:
        """Returns the order of an epoch."""
        options = self.options
        if options.evaluation:
            return in_order
        if self.lanes is not None:
            return self.lanes.order(epoch)
        if isinstance(options.shuffle, int):
            counts = self.subset.shard_samples(self.dataset)
            return BlockShuffle(shard_samples=counts, shard_window=options.shuffle, seed=options.seed, epoch=epoch)
        return global_shuffle(self.subset.samples, options.seed, epoch)

    def reads(self, epoch: int, from_step: int) -> Iterator[ShardUse]:
        """Yields which shards this rank reads of an epoch from a step on, and in which steps, rising by the first."""
        partition, counts = self.partition, self.subset.shard_samples(self.dataset)
        order = self.order(epoch)
        if self.lanes is not None:
            return self.lanes.reads(partition.rank, partition.world_size, epoch, from_step)
        if self.options.evaluation:
            return ordered_reads(counts, partition, from_step)
        if isinstance(order, BlockShuffle):
            return block_reads(order, partition, from_step)
        return global_reads(counts, partition, from_step)

    def identity(self, sampling: str) -> StreamIdentity:
        """Returns what states are compared with; `sampling` says in words what is drawn for a sample."""
        options = self.options
        shuffled = f"blocks of {options.shuffle} shards" if isinstance(options.shuffle, int) else "global"
        if self.lanes is not None:
            shuffled = f"{self.lanes.lanes} lanes, windows of {self.lanes.window} shards"
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
    dataset.prepare_rows(scattered=options.shuffle == "global" and not options.evaluation)
    if options.store is not None:
        check_store(options.store, dataset)
    _check_exclusions(options)
    subset = resolve_subset(dataset, options.subset, options.exclude)
    augmentation = _augmentation(options, dataset.image_size, preset)
    check_views(backend, dataset, augmentation)
    parts = LoaderParts(
        options=options,
        dataset=dataset,
        subset=subset,
        lanes=_lanes(options, dataset, subset),
        readahead=None,
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
    return parts if isinstance(dataset.path, Path) or backend == "store" else _with_readahead(parts)


def _with_readahead(parts: LoaderParts) -> LoaderParts:
    """Returns the parts of a loader that reads shards at a URL through the cache of this node.

    Raises:
        ValueError: a global shuffle, which needs every shard at every step, and the cache may not hold them all.
        CacheError: the cache cannot be used.
    """
    dataset, options = parts.dataset, parts.options
    cache = ShardCache(storage_of(dataset.path), cache_home())
    mixed = options.shuffle == "global" and not options.evaluation
    total, allowed = dataset.manifest.shards.totals.bytes, cache.allowed
    if mixed and total > allowed:
        raise ValueError(
            f"shuffle='global' needs every shard at every step: the cache must hold all {total:,} bytes of "
            f"{dataset.path}, it may {allowed:,}; use shuffle='lanes', or allow more by SELFIE_CACHE_BYTES"
        )
    readahead = Readahead(
        dataset.manifest,
        cache,
        parts.reads,
        bring_rows=dataset.bring_rows,
        steps=parts.partition.steps,
        prefetch=options.prefetch,
        few=not mixed,
    )
    return replace(parts, dataset=dataset.read_by(readahead), readahead=readahead)


def _lanes(options: ImageLoaderOptions, dataset: Dataset, subset: Subset) -> LaneShuffle | None:
    if options.lanes is None or options.evaluation:
        return None
    return LaneShuffle(
        shard_samples=subset.shard_samples(dataset),
        global_batch_size=options.global_batch_size,
        lanes=options.lanes,
        seed=options.seed,
    )


def _augmentation(options: ImageLoaderOptions, image_size: int, preset: str) -> Augmentation:
    augment = options.augment
    if augment == "auto":
        augment = "none" if options.evaluation else preset
    augmentation = resolve_augmentation(augment, image_size)
    if options.evaluation and augmentation.random:
        raise ValueError(f"an evaluation sees every image as it is, so augment must be 'none', got {augment!r}")
    return augmentation


def _check_exclusions(options: ImageLoaderOptions) -> None:
    """Refuses an exclusion record that is not there, unless this loader is to begin it."""
    named = options.exclude if isinstance(options.exclude, str | Path) else None
    if named is not None and options.on_error != "record" and not Path(named).exists() and Path(named).suffix == ".txt":
        raise ValueError(f"exclude={str(named)!r}: there is no such file; on_error='record' begins one")
