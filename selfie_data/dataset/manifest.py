"""`manifest.json`: the root of a dataset, of one size however many samples there are. No dataset exists without it.

    manifest.json -> pages/ -> shard-NNNNNN.rows -> shard-NNNNNN.tar, .idx
    roots/FINGERPRINT.json     the manifests before, of a dataset that has grown or shrunk; each opens what it was

It is written last and atomically. Its last entry, `digest`, is the SHA-256 of every byte before it, so that a changed
manifest is noticed; it holds the hash of the index of the pages, these hold those of the shards and their rows, and so
every byte is accounted for. Neither time, host, path, user nor worker count is in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from selfie_data.dataset.manifest_1 import SCHEMA as OLD_SCHEMA
from selfie_data.dataset.manifest_1 import OldManifest
from selfie_data.dataset.names import index_name
from selfie_data.dataset.pages import HeldPages, Shards, Totals, open_pages
from selfie_data.dataset.rows import Restarts
from selfie_data.dataset.table import NAME as TABLE
from selfie_data.dataset.table import table_files
from selfie_data.errors import DatasetError
from selfie_data.notices import Notice
from selfie_data.storage.place import Place, storage_of

SCHEMA = 2
NAME = "manifest.json"
UPGRADED = "manifest-2.json"
"""The root of a dataset of schema 1 that was upgraded, beside its manifest."""
ROOTS = "roots"
"""The folder of the manifests before."""
EXCLUDED = "excluded"
"""The folder of the ids that are left out."""
_DIGEST_MARK = b',\n "digest": "'
_OLD_BEGINS = b'{\n "schema": 1,'


class Sizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The smallest and the largest of all stored images.

    Attributes:
        height, width: pixels.
        length: bytes of a sample's image in its shard.
        area: most pixels that an image has.
    """

    height: tuple[int, int]
    width: tuple[int, int]
    length: tuple[int, int]
    area: int


class Excluded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples that nobody goes through any more: how many, and the SHA-256 of the file of their ids."""

    samples: int
    sha256: str

    @property
    def file(self) -> str:
        """Path in the dataset: int64 ids, ascending, as a NumPy file."""
        return f"{EXCLUDED}/{self.sha256}.npy"


class Ancestor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset was, and how it went on.

    Attributes:
        fingerprint: it had.
        samples: it had, the excluded ones included.
        excluded: how many of them were.
        added: description of the source whose images were added then; {} where none were.
    """

    fingerprint: str
    samples: int
    excluded: int
    added: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `manifest.json` says, in its order.

    Attributes:
        schema: of the file; 1 where it is a dataset of an earlier version, read as such.
        fingerprint: SHA-256 over what identifies the stream of samples (set by `sealed`).
        parent: fingerprint of the dataset that this one was made from; left out where there is none.
        lineage: what it was before, oldest first, the last of them `parent`; left out where it never changed.
        upgraded: digest of the manifest of schema 1 beside it, whose fingerprint this one keeps; left out elsewhere.
        source: the source's own description.
        options: the build options, defaults resolved.
        seed: of the plan.
        class_names: a label is a position in it; sorted, those that were added later behind the others, sorted too. ()
            when nothing is labelled.
        image_size: the model's input size S in pixels.
        encoding: what members hold: "raw" (uint8 S x S x 3), "jpeg" or "png".
        codecs: name -> version of every library that the bytes depend on.
        permutation_version: of the plan's keyed bijection.
        mean: channel means of all pixels stored by the first build, 0..255: a dataset that changes keeps them.
        std: channel standard deviations, 0..255.
        pixels: how many pixels the statistics are of.
        samples: how many there are, ids 0 … samples - 1.
        excluded: those of them that are left out everywhere; left out where there are none.
        class_counts: class index as text ("-1": no label) -> number of samples, excluded ones apart, in order of index.
        sizes: of the stored images, excluded ones included; None with schema 1.
        shards: in order; in the file their `pages.Totals`.
        files: path -> SHA-256 of what is there besides: `notices.json`, and of `samples.zarr` as `tree_digest` says.
        notices: what of the source is not used, or used by a guess, largest first; left out where there is nothing.
        restarts: of stored JPEGs, where they were to get markers; left out otherwise.
        digest: SHA-256 of the file up to its last entry (set by `save` and `load`).
        listed: the manifest of schema 1 that this was made of; in no file.
    """

    schema: int = SCHEMA
    fingerprint: str = ""
    parent: str = ""
    lineage: tuple[Ancestor, ...] = ()
    upgraded: str = ""
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
    samples: int
    excluded: Excluded | None = None
    class_counts: dict[str, int]
    sizes: Sizes | None = None
    shards: Shards
    files: dict[str, str]
    notices: tuple[Notice, ...] = ()
    restarts: Restarts | None = None
    digest: str = ""
    listed: OldManifest | None = None

    @property
    def live(self) -> int:
        """How many samples are not excluded."""
        return self.samples - (self.excluded.samples if self.excluded else 0)

    @property
    def parts(self) -> tuple[int, ...]:
        """The first ids of the samples that were built together, rising; 0 is the first."""
        return tuple(sorted({0, *(each.samples for each in self.lineage if each.samples < self.samples)}))

    @property
    def next_number(self) -> int:
        """What a shard after the last would be numbered."""
        return self.shards[-1].number + 1

    @property
    def places(self) -> int:
        """How many plan positions there are, those of images that could not be used included."""
        last = self.shards[-1]
        return last.first + last.samples + last.quarantined

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
            "pages": self.shards.totals.pages,
            **({"excluded": self.excluded.sha256} if self.excluded else {}),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def save(self, dataset: Place) -> str:
        """Writes the manifest of a dataset atomically, or beside an old one if it is `upgraded`; returns its digest."""
        text, digest = _serialise(self)
        storage_of(dataset).write(UPGRADED if self.upgraded else NAME, text)
        return digest

    def reached(self) -> Iterator[str]:
        """Yields the paths of the files that it leads to, itself and `splits/` apart."""
        for name in self.files:
            yield from table_files(self.samples) if name == TABLE else (name,)
        if self.excluded:
            yield self.excluded.file
        if self.listed is None:
            yield from self.shards.files
        for shard in self.shards:
            if self.listed is None:
                yield shard.rows_name
            if shard.bytes:
                yield shard.name
                yield index_name(shard.name)

    def keep(self, dataset: Place) -> None:
        """Copies the manifest that is there, which is this one, to where it is found by its fingerprint."""
        found = (dataset / (UPGRADED if self.upgraded else NAME)).read_bytes()
        storage_of(dataset).create(root_name(self.fingerprint), found)

    @classmethod
    def load(cls, dataset: Place, *, fingerprint: str = "") -> "Manifest":
        """Reads the manifest of a dataset directory, of either schema, and checks its digest; then its pages.

        Args:
            dataset: the directory, or its URL.
            fingerprint: of what the dataset was, or is; "": what it is.

        Raises:
            DatasetError: missing, unreadable, damaged, or of a newer schema; nothing of this fingerprint is kept.
        """
        present = cls._load_present(dataset)
        if fingerprint in ("", present.fingerprint):
            return present
        file = dataset / root_name(fingerprint)
        try:
            return _parse(file.read_bytes(), file, dataset)
        except FileNotFoundError:
            raise DatasetError(
                f"{dataset}: is {present.fingerprint[:12]}…, and nothing is kept of a time when it was "
                f"{fingerprint[:12]}…{_why_gone(present, fingerprint)}"
            ) from None
        except OSError as error:
            raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error

    @classmethod
    def _load_present(cls, dataset: Place) -> "Manifest":
        file = dataset / NAME
        try:
            file, text = _read(dataset)
        except FileNotFoundError:
            if not dataset.exists():
                raise DatasetError(
                    f"{dataset}: no such dataset directory; `selfie-data build-shards` makes one"
                ) from None
            raise DatasetError(f"{file}: missing; the folder is no finished dataset (build it, or resume it)") from None
        except NotADirectoryError:
            raise DatasetError(f"{dataset}: a file, where the directory of a dataset is wanted") from None
        except OSError as error:
            raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
        return _parse(text, file, dataset)


def load_old(dataset: Place) -> Manifest:
    """Reads `manifest.json` of a dataset that was upgraded: of schema 1, as if nothing stood beside it.

    Raises:
        DatasetError: it is missing, unreadable or damaged.
    """
    file = dataset / NAME
    try:
        return _parse(file.read_bytes(), file, dataset)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error


def root_name(fingerprint: str) -> str:
    """Returns the path, in the dataset, of the manifest of what it was."""
    return f"{ROOTS}/{fingerprint}.json"


def kept_roots(dataset: Place, manifest: Manifest) -> dict[str, Manifest | DatasetError]:
    """Returns the manifests that are kept of what a dataset was, by their paths in it; or why one cannot be read."""
    found: dict[str, Manifest | DatasetError] = {}
    for ancestor in manifest.lineage:
        name = root_name(ancestor.fingerprint)
        try:
            root = _parse((dataset / name).read_bytes(), dataset / name, dataset)
            if root.fingerprint != ancestor.fingerprint:
                raise DatasetError(
                    f"{dataset / name}: is of the dataset {root.fingerprint[:12]}…, its name says another"
                )
            found[name] = root
        except FileNotFoundError:  # images were purged since
            continue
        except DatasetError as error:
            found[name] = error
        except OSError as error:
            found[name] = DatasetError(f"{dataset / name}: cannot be read ({error.strerror})")
    return found


def tree_digest(files: Mapping[str, str]) -> str:
    """Returns the SHA-256 of a line a file, hash, two spaces and path, sorted by path: as `sha256sum` lists them."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _read(dataset: Place) -> tuple[Place, bytes]:
    """Reads the root; of an upgraded dataset what stands beside the manifest of schema 1, which may be long."""
    file, upgraded = dataset / NAME, dataset / UPGRADED
    if isinstance(file, Path):
        with file.open("rb") as opened:
            text = opened.read(len(_OLD_BEGINS))
    else:  # one request
        text = file.read_bytes()
    if text.startswith(_OLD_BEGINS) and upgraded.exists():
        return upgraded, upgraded.read_bytes()
    return file, file.read_bytes() if isinstance(file, Path) else text


def _why_gone(present: Manifest, fingerprint: str) -> str:
    known = any(each.fingerprint == fingerprint for each in present.lineage)
    if not known:
        return "; it is another dataset"
    return "; images were purged since: begin anew, or go on without them (`selfie-model pretrain … --follow`)"


def _serialise(manifest: Manifest) -> tuple[bytes, str]:
    parts = msgspec.to_builtins(manifest, enc_hook=lambda shards: msgspec.to_builtins(shards.totals))
    del parts["digest"], parts["listed"]
    for name in ("parent", "lineage", "upgraded", "excluded", "notices", "restarts"):
        if not parts[name]:
            del parts[name]
    body = json.dumps(parts, indent=1, ensure_ascii=True).removesuffix("\n}").encode()
    digest = hashlib.sha256(body).hexdigest()
    return body + _DIGEST_MARK + digest.encode() + b'"\n}\n', digest


class _Head(msgspec.Struct):
    """What is looked at before the rest is believed to be a manifest of this version."""

    schema: Any
    digest: Any = None


def _parse(text: bytes, file: Place, dataset: Place) -> Manifest:
    try:
        head = msgspec.json.decode(text, type=_Head)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: damaged, not the JSON of a manifest ({error})") from error
    if isinstance(head.schema, int) and head.schema > SCHEMA:
        raise DatasetError(f"{file}: schema {head.schema} is newer than this version reads ({SCHEMA}); update selfie")
    if head.schema not in (OLD_SCHEMA, SCHEMA):
        raise DatasetError(f"{file}: unknown schema {head.schema!r}, this version reads {OLD_SCHEMA} and {SCHEMA}")
    body, _, end = text.rpartition(_DIGEST_MARK)
    digest = hashlib.sha256(body).hexdigest()
    if head.digest != digest or end != digest.encode() + b'"\n}\n':
        raise DatasetError(f"{file}: damaged, its digest is {digest[:12]}… but it says {str(head.digest)[:12]}…")
    try:
        manifest: Manifest | OldManifest
        if head.schema == OLD_SCHEMA:
            manifest = msgspec.json.decode(text, type=OldManifest)
        else:
            manifest = msgspec.json.decode(text, type=Manifest, dec_hook=lambda _, value: _shards(dataset, value))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not a valid manifest ({error})") from error
    upgraded = isinstance(manifest, Manifest) and manifest.upgraded
    if not upgraded and manifest.fingerprint != manifest.compute_fingerprint():
        raise DatasetError(f"{file}: not a valid manifest (the fingerprint does not belong to the contents)")
    if isinstance(manifest, OldManifest):
        return _from_old(manifest)
    if manifest.samples != manifest.shards.starts[-1]:
        raise DatasetError(f"{file}: not a valid manifest (it says {manifest.samples} samples, its pages others)")
    return manifest


def _shards(dataset: Place, value: Any) -> Shards:
    return open_pages(dataset, msgspec.convert(value, Totals))


def _from_old(old: OldManifest) -> Manifest:
    """Returns an old manifest in the present form."""
    facts = msgspec.structs.asdict(old)
    del facts["quarantined"]
    return Manifest(
        **{
            **facts,
            "samples": sum(shard.samples for shard in old.shards),
            "class_counts": old.class_counts,
            "shards": Shards(HeldPages(old.entries())),
            "listed": old,
        }
    )
