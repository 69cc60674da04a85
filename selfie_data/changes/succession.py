"""How a dataset becomes another in the same folder: what it was is kept by its fingerprint, then the manifest replaced.

    roots/FINGERPRINT.json    the manifest that was, byte by byte
    manifest.json             that of the child: it shares the shards, rows and full pages of its parent

Everything that the child names is there before it is; a crash before leaves the parent, and files that no root names.
A bucket has no lock: one change of a dataset at a time is the user's to see to.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from selfie_data.dataset.manifest import UPGRADED, Ancestor, Manifest
from selfie_data.dataset.names import BUILD, EXTENSION
from selfie_data.errors import BuildError
from selfie_data.storage.place import Place, RemotePath, storage_of


def load_parent(dataset: Place) -> Manifest:
    """Returns the manifest of a dataset that is to change.

    Raises:
        DatasetError: there is none, or it is damaged.
        BuildError: it is of schema 1, or at a web server.
    """
    if isinstance(dataset, RemotePath) and not dataset.listable:
        raise BuildError(f"{dataset}: a web server is read only; a dataset changes in a folder or a bucket")
    manifest = Manifest.load(dataset)
    if manifest.listed is not None:
        raise BuildError(
            f"{dataset}: is of schema 1, which cannot change; `selfie-data upgrade {dataset}` writes the present "
            "one beside it"
        )
    return manifest


def refuse_extension(dataset: Place) -> None:
    """Raises a BuildError where an extension was begun and is not finished."""
    if (dataset / BUILD / EXTENSION).exists():
        raise BuildError(
            f"{dataset}: an extension is not finished; give its command again, or delete {BUILD} there to give it up"
        )


def succeed(
    dataset: Place, parent: Manifest, *, added: Mapping[str, Any], keep: bool = True, **changes: Any
) -> Manifest:
    """Replaces the manifest of a dataset by that of its child, and returns it.

    Args:
        dataset: the folder.
        parent: the manifest that is there.
        added: description of the source that was added; {} if none was.
        keep: the parent, to be opened by its fingerprint.
        changes: entries in which the child differs.
    """
    ancestor = Ancestor(
        fingerprint=parent.fingerprint,
        samples=parent.samples,
        excluded=parent.excluded.samples if parent.excluded else 0,
        added=dict(added),
    )
    lineage = (*parent.lineage, ancestor)
    child = msgspec.structs.replace(
        parent, parent=parent.fingerprint, lineage=lineage, upgraded="", digest="", **changes
    ).sealed()
    if keep:
        parent.keep(dataset)
    child.save(dataset)
    if parent.upgraded:  # its manifest of schema 1 has just been replaced
        storage_of(dataset).delete([UPGRADED])
    return Manifest.load(dataset)
