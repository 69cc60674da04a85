"""How much a build will write, from a sample of the source; and so how many samples make a shard."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from selfie_data.build.options import BuildOptions
from selfie_data.dataset.shard import stored_bytes
from selfie_data.errors import ImageError
from selfie_data.notices import Notices
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose
from selfie_data.source import ImageSource, SourceImage, read_images

_SAMPLE = 32  # images; sizes of photographs vary by half of their mean, so this is within 9 % or so
_TRIALS = 20
_WRITING_S = 30e-6  # headers, hashes, statistics, index of a small image
_SHARDS = 32  # at least so many, but for sets so small that starting a process takes longer than a shard
_SMALLEST_SHARD = 64  # samples
_UNUSABLE = "images that cannot be used"
_UNKNOWN = 128 << 10  # bytes an image if none of the sample can be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a sample of the source says about all of it.

    Attributes:
        samples: images that will be used.
        sample_bytes: mean bytes of a sample in a shard, headers included, rounded up.
        seconds: for all images in one process, as the machine is now; None if nobody looked.
        looked_at: images of the sample.
        notices: of these, what cannot be used, or is used in part or by a guess.
    """

    samples: int
    sample_bytes: int
    seconds: float | None
    looked_at: int = 0
    notices: Notices = field(default_factory=Notices, compare=False)

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return self.samples * self.sample_bytes


def count_samples(source: ImageSource, options: BuildOptions) -> int:
    """Returns how many images of the source are used."""
    return len(source) if options.limit is None else min(len(source), options.limit)


def estimate_build(source: ImageSource, options: BuildOptions, *, timed: bool = False) -> Estimate:
    """Encodes the first images of the plan, or those that a source gives for it.

    What it says of bytes depends on nothing but source and options.

    A source that has to be spooled and is not yet is judged by the size of its spool, by the time that reading its
    labels took (it is read through for them) and by an image made for the purpose.
    """
    started = time.perf_counter()
    samples = count_samples(source, options)
    if source.spool_bytes and samples:
        seconds = time.perf_counter() - started + samples * _seconds_an_image(options) if timed else None
        return Estimate(samples=samples, sample_bytes=_unspooled_bytes(source, options), seconds=seconds)
    if not samples:
        return Estimate(samples=0, sample_bytes=0, seconds=0.0)
    neighbours: Callable[[int], list[int]] | None = getattr(source, "neighbours", None)
    if neighbours is not None:
        indices = np.array(neighbours(min(samples, _SAMPLE)))
    else:
        permutation = Permutation(size=len(source), seed=options.seed, purpose=Purpose.PLAN)
        indices = permutation(np.arange(min(samples, _SAMPLE)))
    labels = source.labels[indices]
    if timed:
        _seconds_an_image(options)  # whatever is done once only
    started = time.perf_counter()
    sizes, notices = [], Notices()
    for image, label in zip(read_images(source, indices.tolist()), labels.tolist(), strict=True):
        if isinstance(image, ImageError):
            notices.add(_UNUSABLE, str(image))
            continue
        try:
            stored = options.encoder(image)
        except ImageError as error:
            notices.add(_UNUSABLE, f"{image.name}: {error}")
            continue
        sizes.append(stored_bytes(len(stored.payload), labelled=label >= 0))
        for reason in stored.notices:
            notices.add(reason, image.name)
    seconds = ((time.perf_counter() - started) / len(indices) + _WRITING_S) * samples if timed else None
    mean = -(-sum(sizes) // len(sizes)) if sizes else _UNKNOWN
    return Estimate(samples=samples, sample_bytes=mean, seconds=seconds, looked_at=len(indices), notices=notices)


def _seconds_an_image(options: BuildOptions) -> float:
    """Encodes an image of about the size that there will be, a few times."""
    side = max(options.size, 8)
    pixels = np.random.default_rng(0).integers(96, 160, (side, side, 3), dtype=np.uint8)
    image = SourceImage("", simplejpeg.encode_jpeg(pixels))
    options.encoder(image)
    started = time.perf_counter()
    for _ in range(_TRIALS):
        options.encoder(image)
    return (time.perf_counter() - started) / _TRIALS + _WRITING_S


def _unspooled_bytes(source: ImageSource, options: BuildOptions) -> int:
    raw = 3 * options.size * options.size
    payload = raw if options.encoder.encoding == "raw" else -(-source.spool_bytes // len(source))
    return stored_bytes(payload, labelled=True)


def samples_per_shard(options: BuildOptions, estimate: Estimate) -> int:
    """Returns how many samples make a shard: `shard_bytes` full, or less, so that all cores have work."""
    if options.samples_per_shard is not None:
        return options.samples_per_shard
    fair = max(_SMALLEST_SHARD, -(-estimate.samples // _SHARDS))
    return max(1, min(options.shard_bytes // max(1, estimate.sample_bytes), fair))
