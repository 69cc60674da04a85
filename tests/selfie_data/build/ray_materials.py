"""Encoders that are slow or deadly, for tasks of a cluster, whose processes import them from here."""

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.build.ray_engine import run_ray
from selfie_data.build.shard_task import Done, ImageEncoder, Job, Report
from selfie_data.images.encode import Stored
from selfie_data.source import SourceImage
from selfie_data.sources import open_source


@dataclass(frozen=True)
class Troubled:
    """An encoder that takes `seconds` more an image, and ends its process at the image `deadly`, as a crash does.

    With a file `once` it does so only until that is there.
    """

    encoder: ImageEncoder
    seconds: float = 0.0
    deadly: str = ""
    once: Path | None = None

    @property
    def encoding(self) -> str:
        return self.encoder.encoding

    @property
    def restart_blocks(self) -> object:
        return self.encoder.restart_blocks

    def __call__(self, image: SourceImage) -> Stored:
        time.sleep(self.seconds)
        if image.name == self.deadly and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.encoder(image)


if __name__ == "__main__":  # a slow build on a cluster, to be killed: OUT ROOT ADDRESS
    out, root, address = sys.argv[1:]

    def slowly(job: Job, shards: Sequence[int], report: Report) -> Generator[Done, None, None]:
        from tests.selfie_data.build.ray_materials import Troubled as Slow  # nodes do not know `__main__`

        return run_ray(replace(job, encoder=Slow(job.encoder, seconds=0.1)), shards, report, address=address)

    build_shards(open_source("folder", root), out, BuildOptions(size=32, samples_per_shard=6), engine=slowly)
