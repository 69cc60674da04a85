"""Shards as the datasets of a study: which images each part of the protocol sees.

training images   all of SHARDS; without test shards, all but a fixed fifth of each class, which is the test set
validation        10 % of each class of the training images, the same in the whole study
labelled P, seed  tuning: P % of the rest; final: P % of all training images; drawn with the seed
"""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.batch import BatchLoader, ImageBatch, PatchBatch
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.splits import SplitOptions, split_ids
from selfie_data.errors import DatasetError
from selfie_data.files import write_output
from selfie_data.storage.place import Place
from selfie_model.config import Config
from selfie_model.data import LoaderOptions, check_classes, image_loader, open_shards, patch_loader, shorter_side_seen
from selfie_model.study.grid import TUNING_SEED

TEST_PERCENT = "20"
VALIDATION_PERCENT = "10"
TEST_IDS = "test_ids.npy"
_TEST_SEED = 1 << 63  # beyond any seed of a run
_EVALUATION_BATCH = 256

Ids = NDArray[np.int64]


class StudyShards:
    """Opens the datasets and hands out loaders; see `study_data.StudyData`.

    Args:
        shards: dataset to learn from; labelled.
        test: dataset to measure on, of the same classes; None = a fifth of `shards`, never trained on.
        config: the model's image size is checked against the shards'.
        loading: how `shards` are read; test shards are read in the same way, but never from its pixel store.

    Raises:
        DatasetError: damaged, unlabelled, or the classes differ.
    """

    def __init__(self, shards: Place, test: Place | None, *, config: Config, loading: LoaderOptions) -> None:
        self._shards = open_shards(shards, config)
        self._loading, self._test_loading = loading, replace(loading, store=None)
        _check_labels(self._shards)
        everything = np.arange(len(self._shards))
        if test is None:
            self._test = self._shards
            parts = split_ids(self._shards.table.label, _options(TEST_PERCENT, (), _TEST_SEED))
            self._train_ids, self._test_ids = parts["train"], parts["validation"]
        else:
            self._test = open_shards(test, config)
            _check_labels(self._test)
            self._train_ids, self._test_ids = everything, np.arange(len(self._test))
            if self._test.class_names != self._shards.class_names:
                raise DatasetError(f"{test}: its classes are not those of {shards}; build it with --classes-from")
        self._held_out = test is None
        if (batch := config.pretrain.batch_size) > len(self._train_ids):  # found out after the first cells otherwise
            raise DatasetError(
                f"{shards}: pretraining takes {batch} images a step and there are {len(self._train_ids)}: "
                f"--set pretrain.batch_size={len(self._train_ids)} or less"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._shards.class_names

    @property
    def identity(self) -> dict[str, str]:
        test = f"{TEST_PERCENT} % of the same images" if self._held_out else self._test.fingerprint
        order = {} if isinstance(self._shards.path, Path) or self._loading.store else {"order": "lanes"}
        return {"fingerprint": self._shards.fingerprint, "test": test, "validation": f"{VALIDATION_PERCENT} %", **order}

    @property
    def resize(self) -> int:
        return shorter_side_seen(self._shards)

    @property
    def note(self) -> str:
        """What a reader of the table must know of the test images."""
        count = len(self._test_ids)
        if self._held_out:
            return (
                f"No test shards were given: {count:,} images ({TEST_PERCENT} % of each class) were held out as the "
                "test set; neither pretraining nor finetuning saw them."
            )
        return f"Measured on {count:,} test images in shards of their own."

    def save_held_out(self, path: Path) -> None:
        """Writes which images were held out, so that a report can show puzzles of them; nothing with test shards."""
        self._shards.refuse_inside(path)
        self._test.refuse_inside(path)
        if self._held_out:
            buffer = io.BytesIO()
            np.save(buffer, self._test_ids)
            write_output(path, buffer.getvalue())

    @contextmanager
    def patches(self, config: Config) -> Iterator[BatchLoader[PatchBatch]]:
        with closing(patch_loader(self._shards, config, self._loading, subset=self._train_ids)) as loader:
            yield loader

    def labelled_count(self, percent: float, seed: int, *, tuning: bool) -> int:
        return len(self._labelled_ids(percent, seed, tuning=tuning))

    @contextmanager
    def labelled(self, config: Config, percent: float, seed: int, *, tuning: bool) -> Iterator[BatchLoader[ImageBatch]]:
        ids = self._labelled_ids(percent, seed, tuning=tuning)
        with closing(image_loader(self._shards, config, self._loading, subset=ids)) as loader:
            yield loader

    @contextmanager
    def validation(self, config: Config) -> Iterator[BatchLoader[ImageBatch]]:
        ids = self._train_ids[self._split((), TUNING_SEED)["validation"]]
        with self._evaluation(config, self._shards, ids) as loader:
            yield loader

    @contextmanager
    def test(self, config: Config) -> Iterator[BatchLoader[ImageBatch]]:
        with self._evaluation(config, self._test, self._test_ids) as loader:
            yield loader

    @contextmanager
    def _evaluation(self, config: Config, dataset: Dataset, ids: Ids) -> Iterator[BatchLoader[ImageBatch]]:
        config = config.override(finetune={"batch_size": _EVALUATION_BATCH})
        loading = self._loading if dataset is self._shards else self._test_loading
        with closing(image_loader(dataset, config, loading, subset=ids, evaluation=True)) as loader:
            yield loader

    def _labelled_ids(self, percent: float, seed: int, *, tuning: bool) -> Ids:
        text = f"{percent:g}"
        subsets = self._split((text,), seed)
        return self._train_ids[subsets[f"train-{text}" if tuning else f"all-{text}"]]

    def _split(self, labelled: tuple[str, ...], seed: int) -> dict[str, Ids]:
        labels = self._shards.table.label[self._train_ids]
        return split_ids(labels, _options(VALIDATION_PERCENT, labelled, seed))


def _options(validation: str, labelled: tuple[str, ...], seed: int) -> SplitOptions:
    return SplitOptions(validation=validation, labelled=labelled, seed=seed)


def _check_labels(dataset: Dataset) -> None:
    if not dataset.class_names or (dataset.table.label < 0).any():
        raise DatasetError(f"{dataset.path}: a study needs a label on every image; build from a labelled source")
    check_classes(dataset)
