"""What a root says of all samples, added up shard by shard from their rows."""

from collections import Counter
from typing import Any

import numpy as np

from selfie_data.dataset.manifest import Sizes
from selfie_data.dataset.rows import Restarts, ShardRecord, add_restarts, count_classes
from selfie_data.images.statistics import PixelSums
from selfie_data.notices import Notices


class Sums:
    """What is added up over the shards of a dataset, in order.

    Attributes:
        columns: attributes of `pages.Shard` -> a value a shard.
        pixels: sums over stored pixels.
        class_counts: class index as text -> samples.
        notices: of images.
        restarts: of JPEGs, None if they were to get no markers.
        decoders: name -> version.
        first: name and reason of the first image that could not be used.
        places: of the plan, samples and quarantined images together.
        stored: images that have bytes: others were purged.
        counted: whether all shards kept the sums over their pixels.
    """

    def __init__(self, *, places: int = 0) -> None:
        """`places`: of the plan, before the first shard."""
        self.columns: dict[str, list[Any]] = {}
        self.pixels = PixelSums()
        self.notices = Notices()
        self.restarts: Restarts | None = None
        self.decoders: dict[str, str] = {}
        self.first = ""
        self.places = places
        self.stored = 0
        self.counted = True
        self._counts = Counter[str]()
        self._ends: dict[str, tuple[int, int]] = {}
        self._area = 0

    def add(self, record: ShardRecord, digest: str) -> None:
        """Adds a shard, whose places follow those before; `digest`: SHA-256 of its rows file."""
        facts = {
            "number": record.number,
            "samples": record.samples,
            "first": self.places,
            "quarantined": len(record.quarantined),
            "bytes": record.bytes,
            "sha256": record.sha256 or "0" * 64,
            "rows_sha256": digest,
        }
        for name, value in facts.items():
            self.columns.setdefault(name, []).append(value)
        self.places += record.samples + len(record.quarantined)
        self.pixels = self.pixels.plus(record.sums or PixelSums())
        self.counted &= record.sums is not None
        self.restarts = add_restarts([self.restarts, record.restarts if record.samples else None])
        self.decoders |= record.decoders
        if record.quarantined and not self.first:
            self.first = record.quarantined[0].text
        self._counts.update(count_classes(record.rows["label"]))
        for reason, name in record.notices:
            self.notices.add(reason, name)
        rows = record.rows[record.rows["length"] > 0]
        self.stored += len(rows)
        if len(rows):
            for name in ("height", "width", "length"):
                column = rows[name]
                ends = (int(column.min()), int(column.max()), *self._ends.get(name, ()))
                self._ends[name] = (min(ends), max(ends))
            self._area = max(self._area, int((rows["height"].astype(np.int64) * rows["width"]).max()))

    @property
    def count(self) -> int:
        """How many shards were added."""
        return len(self.columns.get("number", ()))

    @property
    def samples(self) -> int:
        return self._counts.total()

    @property
    def class_counts(self) -> dict[str, int]:
        return dict(sorted(self._counts.items(), key=lambda item: int(item[0])))

    @property
    def sizes(self) -> Sizes:
        return Sizes(**self._ends, area=self._area)
