"""`manifest.json`: what a dataset consists of. Written last and atomically; no dataset exists without it.

The file's last entry, `digest`, is the SHA-256 of every byte before it, so that a changed manifest is noticed. Hashes
of the other files stand in it, so that a changed file is noticed too. Neither time, host, path, user nor worker count
is in it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from selfie_data.errors import DatasetError
from selfie_data.files import write_atomic
from selfie_data.source import Json

SCHEMA = 1
NAME = "manifest.json"
_DIGEST_MARK = b',\n "digest": "'


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard. `class_counts` maps a class index, written as text ("-1": no label), to its number of samples."""

    name: str
    samples: int
    bytes: int
    sha256: str
    class_counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
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
        fingerprint: SHA-256 over what identifies the stream of samples (set by `sealed`).
        digest: SHA-256 of the file up to its last entry (set by `save` and `load`).
    """

    source: Mapping[str, Json]
    options: Mapping[str, Json]
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
    schema: int = SCHEMA
    fingerprint: str = field(default="")
    digest: str = field(default="", compare=False)

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
        return replace(self, fingerprint=self.compute_fingerprint())

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

    def save(self, path: Path) -> str:
        """Writes the manifest to the file or dataset directory `path` atomically; returns its digest."""
        text, digest = _serialise(self)
        write_atomic(_file(path), text)
        return digest

    @classmethod
    def load(cls, path: Path) -> "Manifest":
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


def _file(path: Path) -> Path:
    return path if path.name == NAME else path / NAME


def _serialise(manifest: Manifest) -> tuple[bytes, str]:
    parts = asdict(manifest)
    del parts["digest"]
    ordered = {"schema": parts.pop("schema"), "fingerprint": parts.pop("fingerprint"), **parts}
    body = json.dumps(ordered, indent=1, ensure_ascii=True).removesuffix("\n}").encode()
    digest = hashlib.sha256(body).hexdigest()
    return body + _DIGEST_MARK + digest.encode() + b'"\n}\n', digest


def _parse(text: bytes, file: Path) -> Manifest:
    try:
        parts = json.loads(text)
        schema = parts["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file}: damaged, not the JSON of a manifest ({error})") from error
    if isinstance(schema, int) and schema > SCHEMA:
        raise DatasetError(f"{file}: schema {schema} is newer than this version reads ({SCHEMA}); update selfie")
    if schema != SCHEMA:
        raise DatasetError(f"{file}: unknown schema {schema!r}, this version reads {SCHEMA}")
    digest = hashlib.sha256(text[: text.rfind(_DIGEST_MARK)]).hexdigest()
    if parts.get("digest") != digest or text[text.rfind(_DIGEST_MARK) :] != _DIGEST_MARK + digest.encode() + b'"\n}\n':
        raise DatasetError(
            f"{file}: damaged, its digest is {digest[:12]}… but it says {str(parts.get('digest'))[:12]}…"
        )
    try:
        return _from_json(parts)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file}: not a valid manifest ({error!r})") from error


def _from_json(parts: dict[str, Any]) -> Manifest:
    unknown = set(parts) - {entry.name for entry in fields(Manifest)}
    if unknown:
        raise ValueError(f"unknown entries {sorted(unknown)}")
    manifest = Manifest(
        **{
            **parts,
            "class_names": tuple(parts["class_names"]),
            "mean": tuple(parts["mean"]),
            "std": tuple(parts["std"]),
            "shards": tuple(ShardEntry(**shard) for shard in parts["shards"]),
            "quarantined": tuple(Quarantined(**entry) for entry in parts["quarantined"]),
        }
    )
    if manifest.fingerprint != manifest.compute_fingerprint():
        raise ValueError("the fingerprint does not belong to the contents")
    return manifest
