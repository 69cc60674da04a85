"""How much a build will write, from a sample of the source; and so how many samples make a shard."""

import time
from dataclasses import dataclass

import numpy as np

from selfie_data.errors import ImageError
from selfie_data.options import BuildOptions
from selfie_data.permutation import Permutation
from selfie_data.philox import Purpose
from selfie_data.sample import Source
from selfie_data.shard import stored_bytes

_SAMPLE = 64  # images; sizes of photographs vary by half of their mean, so this is within 6 % or so
_UNKNOWN = 128 << 10  # bytes an image if none of the sample can be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a sample of the source says about all of it.

    Attributes:
        samples: images that will be used.
        sample_bytes: mean bytes of a sample in a shard, headers included, rounded up.
        seconds: for all images in one process, as the machine is now; None where no image can be read yet.
    """

    samples: int
    sample_bytes: int
    seconds: float | None

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return self.samples * self.sample_bytes


def count_samples(source: Source, options: BuildOptions) -> int:
    """Returns how many images of the source are used."""
    return len(source) if options.limit is None else min(len(source), options.limit)


def estimate_build(source: Source, options: BuildOptions) -> Estimate:
    """Encodes the first images of the plan. What it says of bytes depends on nothing but source and options.

    A source that has to be spooled and is not yet is judged by the size of its spool.
    """
    samples = count_samples(source, options)
    if source.spool_bytes and samples:
        return Estimate(samples=samples, sample_bytes=_unspooled_bytes(source, options), seconds=None)
    if not samples:
        return Estimate(samples=0, sample_bytes=0, seconds=0.0)
    permutation = Permutation(size=len(source), seed=options.seed, purpose=Purpose.PLAN)
    indices = permutation(np.arange(min(samples, _SAMPLE)))
    labels = source.labels[indices]
    started = time.perf_counter()
    sizes = []
    for index, label in zip(indices.tolist(), labels.tolist(), strict=True):
        try:
            stored = options.encoder(source.read(index))
        except ImageError:
            continue
        sizes.append(stored_bytes(len(stored.payload), labelled=label >= 0))
    seconds = (time.perf_counter() - started) * samples / len(indices)
    mean = -(-sum(sizes) // len(sizes)) if sizes else _UNKNOWN
    return Estimate(samples=samples, sample_bytes=mean, seconds=seconds)


def _unspooled_bytes(source: Source, options: BuildOptions) -> int:
    raw = 3 * options.size * options.size
    payload = raw if options.encoder.encoding == "raw" else -(-source.spool_bytes // len(source))
    return stored_bytes(payload, labelled=True)


def samples_per_shard(options: BuildOptions, sample_bytes: int) -> int:
    """Returns how many samples make a shard."""
    return options.samples_per_shard or max(1, options.shard_bytes // sample_bytes)
