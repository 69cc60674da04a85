"""Encoders that are slow or deadly, for tasks of a cluster, whose processes import them from here."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from selfie_data.build.shard_task import ImageEncoder
from selfie_data.images.encode import Stored
from selfie_data.source import SourceImage


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
