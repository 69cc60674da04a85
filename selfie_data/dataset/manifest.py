"""`manifest.json`: what a dataset consists of. Written last and atomically; no dataset exists without it.

The file's last entry, `digest`, is the SHA-256 of every byte before it, so that a changed manifest is noticed. Hashes
of the other files stand in it, so that a changed file is noticed too. Neither time, host, path, user nor worker count
is in it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from selfie_data.errors import DatasetError
from selfie_data.notices import Notice
from selfie_data.storage.place import Place, storage_of

SCHEMA = 1
NAME = "manifest.json"
_DIGEST_MARK = b',\n "digest": "'


class ShardEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard. `class_counts` maps a class index, written as text ("-1": no label), to its number of samples."""

    name: str
    samples: int
    bytes: int
    sha256: str
    class_counts: dict[str, int]


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input that could not be used: its key (plan position, 12 digits), its name in the source, and why.

    `name` is empty where the source itself refused the image: `reason` names it then.
    """

    key: str
    name: str
    reason: str

    @property
    def text(self) -> str:
        """Name and reason for people."""
        return f"{self.name}: {self.reason}" if self.name else self.reason


class Restarts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart markers of stored JPEGs.

    Attributes:
        intervals: MCUs between markers, written as text ("0": no markers), to the number of images.
        reasons: why images are stored as they came, to their number; the others got their markers.
    """

    intervals: dict[str, int]
    reasons: dict[str, int]


def add_restarts(parts: Iterable[Restarts | None]) -> Restarts | None:
    """Returns the sums over shards, sorted; None if no shard counted any."""
    counted = [part for part in parts if part is not None]
    if not counted:
        return None
    intervals, reasons = Counter[str](), Counter[str]()
    for part in counted:
        intervals.update(part.intervals)
        reasons.update(part.reasons)
    by_number = sorted(intervals.items(), key=lambda item: int(item[0]))
    return Restarts(intervals=dict(by_number), reasons=dict(sorted(reasons.items())))


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `manifest.json` says, in its order.

    Attributes:
        schema: of the file.
        fingerprint: SHA-256 over what identifies the stream of samples (set by `sealed`).
        parent: fingerprint of the dataset that this one was made from; left out where there is none.
        source: the source's own description.
        options: the build options, defaults resolved.
        seed: of the plan.
        class_names: sorted; a label is a position in it. () when nothing is labelled.
        image_size: the model's input size S in pixels.
        encoding: what members hold: "raw" (uint8 S x S x 3), "jpeg" or "png".
        codecs: name -> version of every library that the bytes depend on.
        permutation_version: of the plan's keyed bijection.
        mean: channel means of all stored pixels, 0..255.
        std: channel standard deviations, 0..255.
        pixels: how many pixels the statistics are of.
        shards: in order; the table's column `shard` is a position in it.
        files: relative path -> SHA-256 of every other file, the manifest and `splits/` excepted.
        quarantined: in order of key.
        notices: what of the source is not used, or used by a guess, largest first; left out where there is nothing.
        restarts: of stored JPEGs, where they were to get markers; left out otherwise.
        digest: SHA-256 of the file up to its last entry (set by `save` and `load`).
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
    shards: tuple[ShardEntry, ...]
    files: dict[str, str]
    quarantined: tuple[Quarantined, ...] = ()
    notices: tuple[Notice, ...] = ()
    restarts: Restarts | None = None
    digest: str = ""

    @property
    def samples(self) -> int:
        """Number of samples, ids 0 … samples - 1."""
        return sum(shard.samples for shard in self.shards)

    @property
    def class_counts(self) -> dict[str, int]:
        """Class index as text -> number of samples, summed over the shards, in order of index."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            for label, count in shard.class_counts.items():
                counts[label] = counts.get(label, 0) + count
        return dict(sorted(counts.items(), key=lambda item: int(item[0])))

    def sealed(self) -> "Manifest":
        """Returns the manifest with its fingerprint set."""
        return msgspec.structs.replace(self, fingerprint=self.compute_fingerprint())

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

    def save(self, path: Place) -> str:
        """Writes the manifest to the file or dataset directory `path` atomically; returns its digest."""
        text, digest = _serialise(self)
        storage_of(_file(path).parent).write(NAME, text)
        return digest

    @classmethod
    def load(cls, path: Place) -> "Manifest":
        """Reads the manifest of a dataset directory, or a manifest file, and checks its digest and its schema.

        Raises:
            DatasetError: missing, unreadable, damaged, or of a newer schema.
        """
        file = _file(path)
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            if not path.exists():
                raise DatasetError(f"{path}: no such dataset directory; `selfie-data build-shards` makes one") from None
            raise DatasetError(f"{file}: missing; the folder is no finished dataset (build it, or resume it)") from None
        except NotADirectoryError:
            raise DatasetError(f"{path}: a file, where the directory of a dataset is wanted") from None
        except OSError as error:
            raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
        return _parse(text, file)


def _file(path: Place) -> Place:
    return path if path.name == NAME else path / NAME


def _serialise(manifest: Manifest) -> tuple[bytes, str]:
    parts = msgspec.to_builtins(manifest)
    del parts["digest"]
    if not manifest.parent:
        del parts["parent"]
    if not manifest.notices:
        del parts["notices"]  # as it was before there were any: such a manifest keeps its bytes
    if manifest.restarts is None:
        del parts["restarts"]  # likewise
    body = json.dumps(parts, indent=1, ensure_ascii=True).removesuffix("\n}").encode()
    digest = hashlib.sha256(body).hexdigest()
    return body + _DIGEST_MARK + digest.encode() + b'"\n}\n', digest


class _Head(msgspec.Struct):
    """What is looked at before the rest is believed to be a manifest of this version."""

    schema: Any
    digest: Any = None


def _parse(text: bytes, file: Place) -> Manifest:
    try:
        head = msgspec.json.decode(text, type=_Head)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: damaged, not the JSON of a manifest ({error})") from error
    if isinstance(head.schema, int) and head.schema > SCHEMA:
        raise DatasetError(f"{file}: schema {head.schema} is newer than this version reads ({SCHEMA}); update selfie")
    if head.schema != SCHEMA:
        raise DatasetError(f"{file}: unknown schema {head.schema!r}, this version reads {SCHEMA}")
    body, _, end = text.rpartition(_DIGEST_MARK)
    digest = hashlib.sha256(body).hexdigest()
    if head.digest != digest or end != digest.encode() + b'"\n}\n':
        raise DatasetError(f"{file}: damaged, its digest is {digest[:12]}… but it says {str(head.digest)[:12]}…")
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not a valid manifest ({error})") from error
    if manifest.fingerprint != manifest.compute_fingerprint():
        raise DatasetError(f"{file}: not a valid manifest (the fingerprint does not belong to the contents)")
    return manifest
