"""The folder being built: locked, and bound to one source, one set of options and one set of library versions.

A bucket knows no locks. There a build is held against others of this machine; those of several machines into one folder
are of one identity or refused, and then each may do what the other does: the bytes are the same. The same holds for the
parts of a build, which share the lock, and on file systems without locks.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfie_data.build.shard_task import scratch_folder
from selfie_data.dataset.manifest import NAME as MANIFEST
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError
from selfie_data.files import read_json, sync_directory
from selfie_data.storage.place import Place, storage_of
from selfie_data.storage.protocol import StorageError

_log = logging.getLogger(__name__)
IDENTITY = "identity.json"
_UNSAID = {  # not said where they are 0, as before there were such options
    "options.restart_blocks": "--restart-blocks",
    "options.block_bytes": "--block-bytes",
}
SOURCE_FINGERPRINT = "source_fingerprint"


@contextlib.contextmanager
def locked(out: Place, *, shared: bool = False) -> Iterator[None]:
    """Makes the folder and holds it against other builds; the lock ends with the process and leaves no file.

    Of a URL it is the folder of this machine where its files are written first. `shared`: other parts of the build may
    be at work too.

    Raises:
        BuildError: another build is at work there, or the folder cannot be made or written.
    """
    folder, descriptor = out if isinstance(out, Path) else scratch_folder(out), open_folder(out)
    try:
        _flock(descriptor, shared=shared, folder=folder)
        try:
            yield
        finally:
            if folder is not out:
                with contextlib.suppress(OSError):  # it holds what the next call goes on with
                    folder.rmdir()
    except BlockingIOError:
        raise BuildError(f"{out}: another build is at work in this folder; wait for it or end it") from None
    finally:
        os.close(descriptor)


def open_folder(out: Place) -> int:
    """Makes the folder, of a URL the one of this machine, and opens it; the caller closes the descriptor.

    Raises:
        BuildError: it cannot be made, or belongs to somebody else.
    """
    folder = out if isinstance(out, Path) else scratch_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o777 if folder is out else 0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW * (folder is not out))
    except OSError as error:
        raise BuildError(f"{folder}: cannot be made a dataset folder ({error.strerror})") from error
    if folder is not out and os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise BuildError(f"{folder}: belongs to another user; let TMPDIR name a folder of your own")
    return descriptor


def _flock(descriptor: int, *, shared: bool, folder: Path) -> None:
    """Locks a folder; where there are no locks, says so and goes on: no byte depends on them.

    Raises:
        BlockingIOError: somebody else has it.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        _log.warning("%s cannot be locked (%s): two builds there at once do everything twice", folder, error.strerror)


def claim_folder(
    out: Place,
    identity: Mapping[str, Any],
    *,
    file: str = IDENTITY,
    holds: str = "an unfinished build",
    instead: str = "choose another folder",
    beside: bool = False,
) -> None:
    """Records what is being built, or compares it with what is there.

    Args:
        out: the folder.
        identity: of what is being built.
        file: that it is recorded in.
        holds: what the folder holds, if it is another.
        instead: what the user can do then.
        beside: whether there may be something besides: a dataset that is to grow.

    Raises:
        BuildError: the folder holds something else, or another kind of build was begun there.
    """
    build = out / BUILD
    try:
        if not build.exists():
            if not beside and (foreign := sorted(path.name for path in out.iterdir() if path.name != BUILD)):
                raise BuildError(
                    f"{out}: not empty (it holds {foreign[0]}) and no build of ours; choose another folder"
                )
            if isinstance(build, Path):
                build.mkdir(exist_ok=True)
        remedy = f"delete the folder's {BUILD} and build again"
        recorded = read_json(build / file, remedy=remedy, error=BuildError)
        if recorded is None:
            if storage_of(build).create(file, json.dumps(identity, indent=1).encode()):
                return
            recorded = read_json(build / file, remedy=remedy, error=BuildError) or {}  # another part was faster
    except OSError as error:
        raise BuildError(f"{out}: cannot be written ({error.strerror})") from error
    refuse_other(out, recorded, identity, what=holds, instead=instead)


def listings_folder(out: Place) -> Place | None:
    """Returns where listings of large tars are kept while building, for whoever works on it; None if it is no build."""
    try:
        if not (out / BUILD).exists() and any(True for _ in out.iterdir()):
            return None
    except FileNotFoundError:
        pass
    except OSError:  # the build says why
        return None
    return out / BUILD / "listings"


def refuse_other(
    out: Place,
    recorded: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    what: str,
    instead: str = "choose another folder",
) -> None:
    """Raises a BuildError that names the first thing in which two builds differ, and both values."""
    old, new = _flatten(recorded), _flatten(json.loads(json.dumps(wanted)))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name == SOURCE_FINGERPRINT:  # a digest tells nobody anything
            raise BuildError(
                f"{out}: holds {what} of a source whose files had other names, sizes or times of change; "
                f"bring them back, or {instead}"
            )
        then, now = (parts.get(name, 0 if name in _UNSAID else None) for parts in (old, new))
        remedy = f"give {_UNSAID[name]} {then}" if name in _UNSAID else "give the same command as then"
        raise BuildError(
            f"{out}: holds {what} with {name} = {_short(then)}, asked for is {_short(now)}; {remedy}, or {instead}"
        )


def clear(out: Place) -> None:
    """Removes what only the build needed.

    Raises:
        BuildError: that failed; the dataset itself is whole.
    """
    try:
        if isinstance(out, Path):
            if (out / BUILD).exists():
                shutil.rmtree(out / BUILD)
            sync_directory(out)
        else:
            storage = storage_of(out)
            storage.delete([found.name for found in storage.list(BUILD)])
            for path in scratch_folder(out).glob("*"):  # the folder itself is the lock, and more may be written there
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise BuildError(f"{out / BUILD}: cannot be removed ({error.strerror}); the rest is whole") from error


def remove_if_empty(out: Place) -> None:
    """After an error: unbinds a folder in which nothing was achieved yet, so that it takes another command."""
    with contextlib.suppress(BuildError, StorageError):  # what went wrong first is to be told
        names = [found.name.rpartition("/")[2] for found in storage_of(out).list()]
        spooled = (scratch_folder(out) / "spool").glob("*.rows")
        if not any(name.startswith("shard-") or name.endswith(".rows") for name in names) and not any(spooled):
            clear(out)


def is_finished(out: Place) -> bool:
    """Says whether a manifest is there."""
    return storage_of(out).stat(MANIFEST) is not None


def _flatten(parts: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(parts, dict):
        return {prefix: parts}
    flat: dict[str, Any] = {}
    for name, value in parts.items():
        flat |= _flatten(value, f"{prefix}.{name}" if prefix else name)
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
