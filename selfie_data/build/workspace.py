"""The folder being built: locked, and bound to one source, one set of options and one set of library versions."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfie_data.build.shard_task import BUILD
from selfie_data.dataset.manifest import NAME as MANIFEST
from selfie_data.errors import BuildError
from selfie_data.files import read_json, sync_directory, write_atomic

IDENTITY = "identity.json"
_RESTARTS = "options.restart_blocks"  # not said where it is 0, as before there was such an option


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the folder and holds it against other builds; the lock ends with the process and leaves no file.

    Raises:
        BuildError: another build is at work there, or the folder cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(f"{out}: cannot be made a dataset folder ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BuildError(f"{out}: another build is at work in this folder; wait for it or end it") from None
    finally:
        os.close(descriptor)


def claim_folder(out: Path, identity: Mapping[str, Any], *, file: str = IDENTITY) -> None:
    """Records what is being built, or compares it with what is there.

    Raises:
        BuildError: the folder holds something else, or another kind of build was begun there.
    """
    build = out / BUILD
    try:
        if not build.exists():
            if foreign := sorted(path.name for path in out.iterdir()):
                raise BuildError(
                    f"{out}: not empty (it holds {foreign[0]}) and no build of ours; choose another folder"
                )
            build.mkdir()
        remedy = f"delete the folder's {BUILD} and build again"
        recorded = read_json(build / file, remedy=remedy, error=BuildError)
        if recorded is None:
            write_atomic(build / file, json.dumps(identity, indent=1).encode())
            return
    except OSError as error:
        raise BuildError(f"{out}: cannot be written ({error.strerror})") from error
    refuse_other(out, recorded, identity, what="an unfinished build")


def refuse_other(out: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any], *, what: str) -> None:
    """Raises a BuildError that names the first thing in which two builds differ, and both values."""
    old, new = _flatten(recorded), _flatten(json.loads(json.dumps(wanted)))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name == "source_fingerprint":  # a digest tells nobody anything
            raise BuildError(
                f"{out}: holds {what} of a source whose files had other names, sizes or times of change; "
                "bring them back, or choose another folder"
            )
        then, now = (parts.get(name, 0 if name == _RESTARTS else None) for parts in (old, new))
        remedy = f"give --restart-blocks {then}" if name == _RESTARTS else "give the same command as then"
        raise BuildError(
            f"{out}: holds {what} with {name} = {_short(then)}, asked for is {_short(now)}; {remedy}, or choose "
            "another folder"
        )


def clear(out: Path) -> None:
    """Removes what only the build needed.

    Raises:
        BuildError: that failed; the dataset itself is whole.
    """
    try:
        shutil.rmtree(out / BUILD)
        sync_directory(out)
    except OSError as error:
        raise BuildError(f"{out / BUILD}: cannot be removed ({error.strerror}); the rest is whole") from error


def remove_if_empty(out: Path) -> None:
    """After an error: unbinds a folder in which nothing was achieved yet, so that it takes another command."""
    achieved = (out.glob("shard-*"), (out / BUILD).glob("*.done"), (out / BUILD / "spool").glob("*.rows"))
    if not any(any(found) for found in achieved):
        with contextlib.suppress(BuildError):  # what went wrong first is to be told
            clear(out)


def is_finished(out: Path) -> bool:
    """Says whether a manifest is there."""
    return (out / MANIFEST).exists()


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
