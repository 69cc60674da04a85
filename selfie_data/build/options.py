"""What a build is asked for, checked once, defaults resolved."""

from dataclasses import dataclass
from typing import Literal

from selfie_data.errors import OptionError
from selfie_data.images.decode import LARGEST_MAX_PIXELS, MAX_PIXELS
from selfie_data.images.encode import STORED_AS, Encoder
from selfie_data.images.resize import shorter_side
from selfie_data.source import BlockSource, ImageSource, Json

SMALL = 64  # pixels; `auto` stores images up to this size raw: JPEG or PNG gains nothing there
BLOCK_BYTES = 16 << 20  # a request of that size takes 0.2 s, of which 0.03 s are waiting
SHARD_BYTES = 64 << 20  # CIFAR-10 becomes 4 shards, ImageNet at 256 px about 600
ENCODINGS = ("auto", *STORED_AS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How images are stored and laid out.

    Attributes:
        size: the model's input size S in pixels.
        encoding: "auto" (raw up to 64 px, keep above), "keep", "jpeg", "png" or "raw".
        quality: of JPEGs that are encoded anew, 1 to 100.
        resize_shorter: shorter side, in pixels, that larger images are shrunk to. None: S for raw, S·8/7 otherwise;
            0: never shrink.
        shard_bytes: about how large a shard may be; smaller sets are cut into 32 shards, of 64 samples at least.
        samples_per_shard: how many samples a shard holds; None: as many as `shard_bytes` allows.
        seed: of the plan, 0 <= seed < 2**64.
        limit: use that many images, a random sample of the source; None: all.
        max_pixels: that an image may have to be decoded whole; a JPEG decoded at a reduced scale, four times as many.
        restart_blocks: MCUs (blocks of 8 or 16 px) between the restart markers of stored JPEGs, at most; "auto": 32 to
            64 px, fewer markers where they would cost more than 4 % of a file; 0: none. None: "auto" for the
            encodings auto and jpeg above 64 px, 0 otherwise. The encoding keep takes 0 only: it changes no byte.
        block_bytes: of a source, about so many that lie side by side stay together in the plan, for reading them by few
            requests; 0: every image goes anywhere. None: 16 MiB where a request an image would be costly, else 0.
        on_error: what an unusable image does: "quarantine" (left out, listed in the manifest) or "fail".
    """

    size: int
    encoding: str = "auto"
    quality: int = 90
    resize_shorter: int | None = None
    shard_bytes: int = SHARD_BYTES
    samples_per_shard: int | None = None
    seed: int = 0
    limit: int | None = None
    max_pixels: int = MAX_PIXELS
    on_error: str = "quarantine"
    restart_blocks: int | Literal["auto"] | None = None
    block_bytes: int | None = None

    def __post_init__(self) -> None:
        _check_range("size", self.size, 1, 1 << 14)
        _check_range("quality", self.quality, 1, 100)
        _check_range("shard_bytes", self.shard_bytes, 1 << 12, 1 << 40)
        _check_range("max_pixels", self.max_pixels, 1, LARGEST_MAX_PIXELS)
        _check_range("seed", self.seed, 0, (1 << 64) - 1)
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        if self.on_error not in ("quarantine", "fail"):
            raise ValueError(f"on_error must be quarantine or fail, got {self.on_error!r}")
        self._check_restart_blocks()
        if self.samples_per_shard is not None:
            _check_range("samples_per_shard", self.samples_per_shard, 1, 1 << 40)
        if self.block_bytes:
            _check_range("block_bytes", self.block_bytes, 1 << 16, 1 << 30)
        if self.limit is not None:
            _check_range("limit", self.limit, 1, 1 << 62)
        if self.shorter_side:
            _check_range(
                "resize_shorter", self.shorter_side, self.size if self.encoder.encoding == "raw" else 1, 1 << 14
            )
        elif self.shorter_side < 0:
            raise ValueError(f"resize_shorter must be 0 or more, got {self.shorter_side}")

    def block_bytes_for(self, source: ImageSource) -> int:
        """Returns `block_bytes` with its default.

        Raises:
            OptionError: they are asked for, and the source's images do not lie side by side.
        """
        if isinstance(source, BlockSource):
            return self.block_bytes if self.block_bytes is not None else BLOCK_BYTES * source.far
        # What is spooled lies side by side then; Parquet of this machine would be planned otherwise than in a bucket.
        if self.block_bytes and (not source.spool_bytes or source.kind == "parquet"):
            raise OptionError(
                f"--block-bytes is for images that lie side by side in archives, or in Parquet files of a bucket; this "
                f"source {source.kind} has each in a file of its own, or is Parquet of this machine: leave it out"
            )
        return self.block_bytes or 0

    @property
    def shorter_side(self) -> int:
        """`resize_shorter` with its default."""
        if self.resize_shorter is not None:
            return self.resize_shorter
        return self.size if self._stores == "raw" else shorter_side(self.size)

    @property
    def encoder(self) -> Encoder:
        return Encoder(
            encoding=self._stores,
            size=self.size,
            shorter_side=self.shorter_side,
            quality=self.quality,
            max_pixels=self.max_pixels,
            restart_blocks=self._restart_blocks,
        )

    @property
    def _stores(self) -> str:
        if self.encoding != "auto":
            return self.encoding
        return "raw" if self.size <= SMALL else "keep"

    @property
    def _restart_blocks(self) -> int | Literal["auto"]:
        if self.restart_blocks is not None:
            return self.restart_blocks
        return "auto" if self.encoding in ("auto", "jpeg") and self.size > SMALL else 0

    def _check_restart_blocks(self) -> None:
        blocks = self.restart_blocks
        if isinstance(blocks, str) and blocks != "auto":
            raise ValueError(f"restart_blocks must be auto or a number, got {blocks!r}")
        if isinstance(blocks, int):
            _check_range("restart_blocks", blocks, 0, (1 << 16) - 1)  # what a file can say
        if blocks and self.encoding == "keep":
            raise ValueError(
                "restart_blocks must be 0 for the encoding keep, which changes no byte; encoding auto adds them"
            )
        if blocks and STORED_AS[self._stores] != "jpeg":
            raise ValueError(f"restart_blocks must be 0 where images are stored as {self._stores}, got {blocks}")

    def describe(self) -> dict[str, Json]:
        """Returns what the stored bytes depend on, seed apart, defaults resolved: what the manifest says.

        `restart_blocks` is left out where it is 0, as before there was such an option: those builds stay the same.
        """
        blocks = self._restart_blocks
        return {
            "size": self.size,
            "encoding": self._stores,
            "quality": self.quality,
            "resize_shorter": self.shorter_side,
            "shard_bytes": None if self.samples_per_shard else self.shard_bytes,
            "samples_per_shard": self.samples_per_shard,
            "limit": self.limit,
            **({} if self.max_pixels == MAX_PIXELS else {"max_pixels": self.max_pixels}),  # as before it was an option
            **({"restart_blocks": blocks} if blocks else {}),
        }


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
