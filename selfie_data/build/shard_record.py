"""What is known of a finished shard, kept in `.build` until the manifest is written, so that a build can go on.

A record is one line of JSON and then the shard's rows as binary. It is written when the shard and its index are already
in place: a shard without a record is not finished and is built again.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.manifest import Quarantined, Restarts
from selfie_data.images.statistics import PixelSums
from selfie_data.storage.place import Place

ROW = np.dtype(
    [
        ("label", "<i4"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("crc32c", "<u4"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardRecord:
    """A finished shard; without samples (all quarantined) there is no file and `sha256` is empty.

    Attributes:
        rows: structured array [samples] of `ROW`, in the order of the shard.
        restarts: of its JPEGs, if they were to get markers.
        decoders: name -> version of what decoded images of the rarer formats, "missing" if nothing could.
        notices: reason and name of each image that was used in part, or by a guess.
    """

    number: int
    bytes: int
    sha256: str
    index_sha256: str
    sums: PixelSums
    quarantined: tuple[Quarantined, ...]
    rows: NDArray[np.void]
    decoders: dict[str, str] = field(default_factory=dict)
    restarts: Restarts | None = None
    notices: tuple[tuple[str, str], ...] = ()

    @property
    def samples(self) -> int:
        return len(self.rows)


def encode_record(record: ShardRecord) -> bytes:
    """Returns the bytes of a record's file."""
    rows = record.rows.tobytes()
    line = {
        "number": record.number,
        "bytes": record.bytes,
        "sha256": record.sha256,
        "index_sha256": record.index_sha256,
        "sums": record.sums,
        "quarantined": [[entry.key, entry.name, entry.reason] for entry in record.quarantined],
        "decoders": record.decoders,
        "restarts": msgspec.to_builtins(record.restarts),
        "notices": record.notices,
        "rows_sha256": hashlib.sha256(rows).hexdigest(),
    }
    return json.dumps(line).encode() + b"\n" + rows


def load_record(path: Place) -> ShardRecord | None:
    """Returns the record at `path`; None if there is none or it is damaged, and the shard is to be built again."""
    try:
        line, _, rows = path.read_bytes().partition(b"\n")
        parts: dict[str, Any] = json.loads(line)
        if parts.pop("rows_sha256") != hashlib.sha256(rows).hexdigest():
            return None
        restarts = msgspec.convert(parts.pop("restarts", None), Restarts | None)
        pixels, total, squares = parts.pop("sums")
        notices = parts.pop("notices")  # not in records of earlier versions, which turned and cut images by other rules
        quarantined = (Quarantined(key=key, name=name, reason=reason) for key, name, reason in parts.pop("quarantined"))
        return ShardRecord(
            **parts,
            sums=PixelSums(pixels, tuple(total), tuple(squares)),
            quarantined=tuple(quarantined),
            rows=np.frombuffer(rows, ROW),
            restarts=restarts,
            notices=tuple((reason, name) for reason, name in notices),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
