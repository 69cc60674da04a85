"""What a study asks of its datasets; the command line answers it with shards, a test with lists."""

from contextlib import AbstractContextManager
from typing import Protocol

from pipelines.batch import BatchLoader, ImageBatch, PatchBatch
from selfie_model.config import Config


class StudyData(Protocol):
    """The datasets of a study. Loaders give uint8 pixels and are closed at the end of their block."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, …"""

    @property
    def identity(self) -> dict[str, str]:
        """What the results depend on: fingerprints of the datasets, how they were split."""

    @property
    def resize(self) -> int:
        """Shorter side, in pixels, that an image has when evaluation crops its centre."""

    def patches(self, config: Config) -> AbstractContextManager[BatchLoader[PatchBatch]]:
        """Every training image, for `config.pretrain`."""

    def labelled_count(self, percent: float, seed: int, *, tuning: bool) -> int:
        """How many images `labelled` draws."""

    def labelled(
        self, config: Config, percent: float, seed: int, *, tuning: bool
    ) -> AbstractContextManager[BatchLoader[ImageBatch]]:
        """A stratified share of the training images for `config.finetune`; without the validation split if `tuning`."""

    def validation(self, config: Config) -> AbstractContextManager[BatchLoader[ImageBatch]]:
        """The validation split, in evaluation order."""

    def test(self, config: Config) -> AbstractContextManager[BatchLoader[ImageBatch]]:
        """The test images, in evaluation order."""
