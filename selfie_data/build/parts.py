"""A build in parts, for job arrays: part I of N builds every N-th shard, `finish_build` puts the dataset together.

    OUT/.build/parts/03-of-10.json    how it goes with a part: at work, failed and why, done
    OUT/.build/notices.json           what of the source is not used, for whoever finishes

Parts know nothing of each other and may run at once, twice or again, with any N: a shard is a task of its own, and its
bytes are the same whoever builds it. A plain build of the same folder goes on with what parts left, and the other way.
A source that is read from front to back is spooled by the first part that comes; others on its file system wait.
"""

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from selfie_data.build.build_shards import already_finished, default_workers, describe_build, prepare_job, run_job
from selfie_data.build.finish import finish_dataset
from selfie_data.build.options import BuildOptions
from selfie_data.build.plan import Runs
from selfie_data.build.progress import Reporter, Silent
from selfie_data.build.shard_task import finished_shards, scratch_folder
from selfie_data.build.workers import refuse_in_worker
from selfie_data.build.workspace import (
    IDENTITY,
    SOURCE_FINGERPRINT,
    claim_folder,
    clear,
    is_finished,
    locked,
    refuse_other,
)
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError, SelfieDataError
from selfie_data.files import read_json
from selfie_data.images.codecs import codec_versions
from selfie_data.notices import NAME as NOTICES
from selfie_data.notices import Notices, notices_of
from selfie_data.source import ImageSource
from selfie_data.storage.place import Place, place_of, storage_of

PLAN = "plan.json"
_PARTS = "parts"
_SPOOL_WAIT_S = 24 * 3600.0  # for another part's spool, at most
_LOOK_S = 0.5
_AGAIN = "delete the folder and build again"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Part `index`, from 1, of `count`. Part 0 has no shards: it lists, spools and plans for the others."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `3/10`.

        Raises:
            ValueError: it is no such text, or no such part.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None or not 0 <= int(found[1]) <= int(found[2]) != 0:
            raise ValueError(
                f"a part is I/N with 1 <= I <= N, as 3/10, or 0/N, which only lists and plans, got {text!r}; arrays "
                "count from 1: --array=1-N"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def shards(self, total: int) -> range:
        """Returns the numbers of its shards, of `total`: every `count`-th; perhaps none, where parts are many."""
        return range(self.index - 1, total, self.count) if self.index else range(0)


class PartState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it goes with a part.

    Attributes:
        part: as `3/10`.
        state: `at work` is also what was killed.
        host, process: where, and its number there.
        since: seconds since 1970.
        error: what it failed with, "" otherwise.
    """

    part: str
    state: Literal["at work", "failed", "done"]
    host: str
    process: int
    since: float
    error: str = ""


class BuildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a build is.

    Attributes:
        finished: there is a manifest.
        shards: how many there will be.
        built: how many are there.
        missing: numbers of the others, rising.
        parts: those that began, by index.
    """

    finished: bool
    shards: int
    built: int
    missing: tuple[int, ...] = ()
    parts: tuple[PartState, ...] = ()


def build_part(
    source: ImageSource,
    out: Place | str,
    options: BuildOptions,
    part: Part,
    *,
    workers: int | None = None,
    progress: Reporter | None = None,
) -> BuildStatus:
    """Builds the shards of a part that are not there yet; writes no manifest. Takes what `build_shards` takes.

    Raises:
        BuildError: as `build_shards`; it is recorded for `build_status` too.
        SourceError: the source cannot be read.
    """
    refuse_in_worker()
    directory, reporter, count = place_of(out).absolute(), progress or Silent(), workers or default_workers()
    with locked(directory, shared=True), closing(reporter):
        identity = describe_build(source, options)
        if is_finished(directory):
            shards = len(already_finished(directory, identity).shards)
            return BuildStatus(finished=True, shards=shards, built=shards)
        claim_folder(directory, {**identity, SOURCE_FINGERPRINT: source.fingerprint})
        with _recorded(directory, part):
            with _spooling_alone(scratch_folder(directory)) if source.spool_bytes else contextlib.nullcontext():
                job = prepare_job(source, directory, options, count, reporter)
            storage_of(directory).create(f"{BUILD}/{NOTICES}", notices_of(job.source).to_json())
            run_job(job, count, reporter, shards=part.shards(job.plan.shards))
        return build_status(directory)


def finish_build(out: Place | str) -> Manifest:
    """Writes table and manifest of a dataset whose shards are all there; needs no source.

    Raises:
        BuildError: no build was begun there, shards are missing, or libraries have other versions here.
    """
    directory = place_of(out).absolute()
    if is_finished(directory):
        return Manifest.load(directory)
    _read_plan(directory)  # else the lock would make a folder
    with locked(directory):
        identity, plan, shards = _read_plan(directory)
        identity.pop(SOURCE_FINGERPRINT, None)
        refuse_other(
            directory, {"codecs": identity["codecs"]}, {"codecs": codec_versions()}, what="an unfinished build"
        )
        status = build_status(directory)
        if status.missing:
            raise BuildError(
                f"{directory}: {len(status.missing)} of {status.shards} shards are not built: "
                f"{ranges(status.missing)}; {_who_builds(status)}"
            )
        try:
            notices = Notices.from_json((directory / BUILD / NOTICES).read_bytes())
        except FileNotFoundError:
            raise BuildError(f"{directory}: no part was built here; give the command of the build again") from None
        manifest = finish_dataset(
            directory, shards, identity=identity, class_names=plan["class_names"], notices=notices
        )
        clear(directory)
        return manifest


def build_status(out: Place | str) -> BuildStatus:
    """Says how far a build is.

    Raises:
        BuildError: no build was begun there.
    """
    directory = place_of(out).absolute()
    if is_finished(directory):
        shards = len(Manifest.load(directory).shards)
        return BuildStatus(finished=True, shards=shards, built=shards)
    _, _, shards = _read_plan(directory)
    built = finished_shards(directory) & set(range(shards))
    missing = tuple(number for number in range(shards) if number not in built)
    parts = tuple(sorted(_states(directory), key=lambda state: Part.parse(state.part)))
    return BuildStatus(finished=False, shards=shards, built=len(built), missing=missing, parts=parts)


def ranges(numbers: tuple[int, ...], *, most: int = 12) -> str:
    """Returns rising numbers for people: `0-3, 7, 9-10`, the first `most` ranges of them."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    return ", ".join(texts[:most]) + ", …" * (len(texts) > most)


def _who_builds(status: BuildStatus) -> str:
    counts = {Part.parse(state.part).count for state in status.parts}
    if len(counts) != 1:
        return "give the command of the build again"
    count = counts.pop()
    wanted = sorted({1 + number % count for number in status.missing})
    return f"they are of parts {ranges(tuple(wanted))} of {count}: give those commands again"


def _read_plan(directory: Place) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Returns what is recorded of a build that was begun: its identity, its plan, and how many shards that has."""
    identity = read_json(directory / BUILD / IDENTITY, remedy=_AGAIN, error=BuildError)
    plan = read_json(directory / BUILD / PLAN, remedy=_AGAIN, error=BuildError)
    if identity is None or "parent" in identity:  # of a restart, which has no parts
        raise BuildError(f"{directory}: no build in parts; `selfie-data build-shards … --part I/N` begins one")
    if plan is None:
        raise BuildError(
            f"{directory}: nothing is planned yet: a part plans when it has listed, or spooled, the source"
        )
    return identity, plan, Runs(samples=plan["samples"], samples_per_shard=plan["samples_per_shard"]).shards


def _states(directory: Place) -> Iterator[PartState]:
    for found in storage_of(directory).list(f"{BUILD}/{_PARTS}"):
        if found.name.endswith(".json"):
            yield msgspec.json.decode((directory / found.name).read_bytes(), type=PartState)


@contextlib.contextmanager
def _recorded(directory: Place, part: Part) -> Iterator[None]:
    """Keeps beside the build how it goes with a part."""
    width = len(str(part.count))
    name = f"{BUILD}/{_PARTS}/{part.index:0{width}d}-of-{part.count}.json"

    def record(state: Literal["at work", "failed", "done"], error: str = "") -> None:
        told = PartState(
            part=str(part), state=state, host=socket.gethostname(), process=os.getpid(), since=time.time(), error=error
        )
        storage_of(directory).write(name, msgspec.json.encode(told), durable=False)

    record("at work")
    try:
        yield
    except SelfieDataError as error:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            record("failed", str(error))
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            record("failed", "stopped by SIGINT")
        raise
    record("done")


@contextlib.contextmanager
def _spooling_alone(scratch: Path) -> Iterator[None]:
    """Holds the spool of a folder while a part fills or checks it.

    Raises:
        BuildError: another part had it for a day, or the file system has no locks.
    """
    deadline = time.monotonic() + _SPOOL_WAIT_S
    with (scratch / "spool.lock").open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildError(f"{scratch}: another part has been spooling for a day; end it and go on") from None
                time.sleep(_LOOK_S)
            except OSError as error:
                raise BuildError(
                    f"{scratch}: cannot be locked ({error.strerror}), and this source must be spooled by one process: "
                    "build it without --part, or on a file system with locks"
                ) from error
        yield
