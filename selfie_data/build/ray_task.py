"""A shard as a task of a Ray cluster: what runs on its nodes, what a node must have, what it says while it works.

Nothing here imports Ray at its top: a node imports this file before anything else and says in one line what is wrong.
"""

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from selfie_data.build.shard_task import Done, ImageEncoder, Job, Tick, build_shard
from selfie_data.build.workspace import open_folder
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError, SelfieDataError, SourceError
from selfie_data.images.codecs import codec_versions
from selfie_data.images.encode import Stored
from selfie_data.images.formats import every_version
from selfie_data.source import ImageSource, SourceImage
from selfie_data.storage.place import Place, storage_of
from selfie_data.storage.protocol import StorageError

_TELL_S = 1.0  # 500 tasks are 500 messages a second then; one actor took 3,300
_SEEN_S = 15.0  # a network file system may remember for some seconds that a file was not there
_ANSWER_S = 10.0

_checked = set[str]()  # tokens of the builds that this process has compared itself with


class Told(NamedTuple):
    """How far a task is: all that it has done, and the image it is at if it was asked to say."""

    done: Tick
    image: str = ""


class Board:
    """What tasks say, by (shard, attempt), until it is read: an actor. Later words replace earlier ones."""

    def __init__(self) -> None:
        self.told: dict[tuple[int, int], Told] = {}

    def write(self, shard: int, attempt: int, told: Told) -> None:
        self.told[shard, attempt] = told

    def read(self) -> dict[tuple[int, int], Told]:
        told, self.told = self.told, {}
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a node must have in common with the machine that directs the build: folder, source and codecs.

    Attributes:
        token: a file of this name was written beside the build.
        versions: name -> version, of everything that bytes depend on.
        probes: the source, or a few images of it.
        digests: index in `probes` -> hex digest of what is read there.
    """

    out: Place
    token: str
    versions: dict[str, str]
    probes: ImageSource
    digests: dict[int, str]

    @classmethod
    def of(cls, job: Job, token: str) -> "Requirements":
        """Writes the token, and reads the first and the last image."""
        last = len(job.source) - 1
        take: Any = getattr(job.source, "take", None)
        probes, indices = (job.source, (0, last)) if take is None else (take(np.array([0, last])), (0, 1))
        storage_of(job.out).write(f"{BUILD}/{token}", b"", durable=False)
        digests = {index: _digest(probes, index) for index in indices}
        return cls(out=job.out, token=token, versions=_versions(), probes=probes, digests=digests)

    def check(self, node: str) -> None:
        """Compares this process with it.

        Raises:
            BuildError: they differ; the error names the node.
        """
        here = _versions()
        if others := {name: here.get(name) for name in self.versions if here.get(name) != self.versions[name]}:
            wanted = ", ".join(f"{name} {self.versions[name]}" for name in others)
            found = ", ".join(f"{name} {version}" for name, version in others.items())
            raise BuildError(f"node {node} has {found}; this build has {wanted}: install the same versions there")
        deadline = time.monotonic() + _SEEN_S
        while not self._is_seen(node):
            if time.monotonic() > deadline:
                raise BuildError(
                    f"node {node} does not see {self.out} as this machine does: the folder of a build by several "
                    "machines lies on a file system that all of them share, or in a bucket"
                )
            time.sleep(0.5)
        for index, digest in self.digests.items():
            if _digest(self.probes, index) != digest:
                raise BuildError(
                    f"node {node} reads other bytes of the source than this machine, or none: it must be in a bucket, "
                    "or under the same path on a file system that all nodes share"
                )

    def _is_seen(self, node: str) -> bool:
        try:
            return storage_of(self.out).stat(f"{BUILD}/{self.token}") is not None
        except StorageError as error:  # other credentials, another endpoint, no way there
            raise BuildError(f"node {node}: {error}") from error


def build_there(
    job: Job, number: int, attempt: int, requirements: Requirements, board: Any, *, watched: bool
) -> tuple[Done, Tick] | SelfieDataError:
    """Builds a shard on a node.

    Args:
        job: of this shard, or whole.
        number: of the shard.
        attempt: how often it was begun before.
        requirements: what this node must have.
        board: the actor that is told of work done.
        watched: tell of each image before it is decoded, and wait until that has arrived.

    Returns:
        The shard and all that was done, or the error that ends the build.
    """
    try:
        if requirements.token not in _checked:
            requirements.check(_node())
            _checked.add(requirements.token)
        os.close(open_folder(job.out))  # files for a bucket are written there first
        teller = _Teller(board, number, attempt)
        if watched:
            job = replace(job, encoder=_Watched(job.encoder, teller))
        return build_shard(job, job.source.labels, number, teller.report), teller.done
    except SelfieDataError as error:
        return error


class _Teller:
    """Adds up what a task reports and passes it on from time to time."""

    def __init__(self, board: Any, number: int, attempt: int) -> None:
        self.board = board
        self.place = (number, attempt)
        self.done = Tick(0, 0, 0)
        self.next = 0.0

    def report(self, tick: Tick) -> None:
        self.done = self.done.plus(tick)
        if (now := time.monotonic()) >= self.next:
            self.next = now + _TELL_S
            self.board.write.remote(*self.place, Told(self.done))

    def at(self, image: str) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # without its board the work goes on all the same
            ray.get(self.board.write.remote(*self.place, Told(self.done, image)), timeout=_ANSWER_S)


@dataclass(frozen=True, slots=True)
class _Watched:
    """An encoder that says which image it is at: what ends the process then is known."""

    encoder: ImageEncoder
    teller: _Teller

    @property
    def encoding(self) -> str:
        return self.encoder.encoding

    @property
    def restart_blocks(self) -> int | Literal["auto"]:
        return self.encoder.restart_blocks

    def __call__(self, image: SourceImage) -> Stored:
        self.teller.at(image.name)
        return self.encoder(image)


def _versions() -> dict[str, str]:
    return codec_versions() | every_version()


def _digest(source: ImageSource, index: int) -> str:
    try:
        data = source.read(index).data
    except SourceError as error:  # it is as unreadable everywhere, or the bytes differ
        data = str(error).encode()
    return hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).hexdigest()


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
