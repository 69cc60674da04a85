"""What a user may choose about a build, and what follows from it."""

from dataclasses import dataclass
from typing import Literal

from selfie_data.encode import RAW_UP_TO, Encoder, Encoding, Stored

DEFAULT_SHARD_BYTES = 256 << 20
OnError = Literal["quarantine", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        size: S, the model's input size, pixels, 8..4096.
        encoding: auto: raw up to 64 px, else keep; keep: JPEG, those that need no change byte for byte; jpeg: every
            image encoded anew; png; raw: uint8 of S x S.
        quality: of JPEG, 1..100.
        resize_shorter: shorter side that larger images are shrunk to, pixels; 0: never; None: S * 8 / 7, and S for raw.
        shard_bytes: about how large a shard becomes.
        samples_per_shard: plan positions a shard; None: by `shard_bytes`.
        seed: of the shuffle, 0 <= seed < 2**64.
        limit: most images used, a random part of the source; None: all.
        on_error: what an image that cannot be used does: it is left out and recorded, or it ends the build.
    """

    size: int
    encoding: Encoding = "auto"
    quality: int = 90
    resize_shorter: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    samples_per_shard: int | None = None
    seed: int = 0
    limit: int | None = None
    on_error: OnError = "quarantine"

    def __post_init__(self) -> None:
        _check(8 <= self.size <= 4096, "size must be 8 to 4096 pixels", self.size)
        _check(1 <= self.quality <= 100, "quality must be 1 to 100", self.quality)
        _check(
            self.resize_shorter is None or self.resize_shorter >= 0, "resize_shorter must be >= 0", self.resize_shorter
        )
        _check(self.shard_bytes >= 1 << 10, "shard_bytes must be at least 1024", self.shard_bytes)
        _check(
            self.samples_per_shard is None or self.samples_per_shard >= 1,
            "samples_per_shard must be >= 1",
            self.samples_per_shard,
        )
        _check(0 <= self.seed < 1 << 64, "seed must be in [0, 2**64)", self.seed)
        _check(self.limit is None or self.limit >= 1, "limit must be >= 1", self.limit)

    @property
    def stored(self) -> Stored:
        """What members hold."""
        if self.encoding == "auto":
            return "raw" if self.size <= RAW_UP_TO else "jpeg"
        return "jpeg" if self.encoding == "keep" else self.encoding

    @property
    def encoder(self) -> Encoder:
        """What encodes every image."""
        shorter = self.resize_shorter
        if shorter is None:
            shorter = self.size if self.stored == "raw" else round(self.size * 8 / 7)
        keep = self.encoding in ("auto", "keep") and self.stored == "jpeg"
        return Encoder(size=self.size, stored=self.stored, keep=keep, quality=self.quality, resize_shorter=shorter)


def _check(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{rule}, got {value}")
