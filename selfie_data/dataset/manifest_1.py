"""The manifest of schema 1, as earlier versions wrote it: all shards in one list, with a histogram of classes each.

Such datasets are read as they always were. `selfie-data upgrade` writes the present form beside it.
"""

import hashlib
import json
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.pages import entries_of
from selfie_data.dataset.rows import Quarantined, Restarts
from selfie_data.notices import Notice

SCHEMA = 1


class ListedShard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard. `class_counts` maps a class index, written as text ("-1": no label), to its number of samples."""

    name: str
    samples: int
    bytes: int
    sha256: str
    class_counts: dict[str, int]

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(self.name.removeprefix("shard-").removesuffix(".tar"))


class OldManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What such a `manifest.json` says, in its order; what is not said here is said of `Manifest`.

    Attributes:
        shards: in order; the table's column `shard` is a position in it.
        files: relative path -> SHA-256 of every other file, the manifest and `splits/` excepted.
        quarantined: in order of key.
    """

    schema: int = SCHEMA
    fingerprint: str = ""
    parent: str = ""
    source: dict[str, Any]
    options: dict[str, Any]
    seed: int
    class_names: tuple[str, ...]
    image_size: int
    encoding: str
    codecs: dict[str, str]
    permutation_version: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixels: int
    shards: tuple[ListedShard, ...]
    files: dict[str, str]
    quarantined: tuple[Quarantined, ...] = ()
    notices: tuple[Notice, ...] = ()
    restarts: Restarts | None = None
    digest: str = ""

    @property
    def class_counts(self) -> dict[str, int]:
        """Class index as text -> number of samples, summed over the shards, in order of index."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            for label, count in shard.class_counts.items():
                counts[label] = counts.get(label, 0) + count
        return dict(sorted(counts.items(), key=lambda item: int(item[0])))

    def compute_fingerprint(self) -> str:
        """Returns the SHA-256 of what a reader's stream depends on: samples, their order, bytes, labels and classes."""
        parts = {
            "schema": self.schema,
            "image_size": self.image_size,
            "encoding": self.encoding,
            "class_names": self.class_names,
            "mean": self.mean,
            "std": self.std,
            "shards": [[shard.name, shard.samples, shard.sha256] for shard in self.shards],
            "table": {name: digest for name, digest in sorted(self.files.items()) if name.startswith("samples.zarr/")},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def entries(self) -> NDArray[np.void]:
        """Returns the entries that pages would have for the shards.

        What was quarantined counts for the shard that follows it, at the end for the last: its places are then all
        those since the shard before, as they are in a dataset whose shards without samples have entries.
        """
        removed = np.array([int(entry.key) for entry in self.quarantined], dtype=np.int64)
        last_id = np.cumsum([shard.samples for shard in self.shards], dtype=np.int64) - 1
        ends = 1 + survivors(removed, last_id)  # one beyond the position of each shard's last sample
        if len(ends):
            ends[-1] = last_id[-1] + 1 + len(removed)
        firsts = np.concatenate(([0], ends[:-1])).astype(np.int64)
        samples = np.array([shard.samples for shard in self.shards], dtype=np.int64)
        return entries_of(
            {
                "number": [shard.number for shard in self.shards],
                "samples": samples,
                "first": firsts,
                "quarantined": ends - firsts - samples,
                "bytes": [shard.bytes for shard in self.shards],
                "sha256": [shard.sha256 for shard in self.shards],
            }
        )


def survivors(removed: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns for places [B], which count what is left, the positions among all; `removed`: rising, of what is not."""
    # Removed positions with at most `place` survivors before them come first.
    return places + np.searchsorted(removed - np.arange(len(removed)), places, side="right")
