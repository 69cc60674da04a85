"""Validation and labelled subsets of a dataset: stratified, nested, reproducible; stored beside the shards.

A class's samples are put in a random order once. The last 10 % are `validation`, everything else, unlabelled samples
too, is `train`. Labelled subsets are beginnings of that order, so a smaller one is part of every larger one:

    one class      | train-5 | ...... train-20 ...... | ........ train-100 ........ | validation |
                   | all-5  ...| ......... all-20 ......... | ............... all-100 ........... |

`train-P` is P % of what is not validation (to tune on), `all-P` is P % of everything (to retrain on afterwards), the
two steps of the paper's protocol (arXiv 1906.02940, section 4). P % are exact counts a class, rounded half up:
5 % of 50 images a class are 3 a class, so 6 % in all; the classes stay balanced, and small ones keep their share.

Samples that were added to a dataset are split by themselves: nothing of what was there changes sides. Excluded samples
keep theirs.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.names import SPLITS_FOLDER
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.splits_record import NAME, SplitsRecord, StoredOptions, StoredSubset, read_splits
from selfie_data.errors import BuildError, DatasetError
from selfie_data.id_lists import Ids, encode_ids
from selfie_data.randomness import permutation
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose
from selfie_data.storage.place import Place, storage_of

_UNLABELLED_STREAM = (1 << 32) - 1  # the order of a dataset without any label; labels are below 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOptions:
    """How to split.

    Attributes:
        validation: percentage of every class held out, 0 <= validation < 100, as text ("10", "2.5").
        labelled: percentages of the labelled subsets, each in (0, 100]; kept in ascending order.
        seed: 0 <= seed < 2**64.
    """

    validation: str = "10"
    labelled: tuple[str, ...] = ("5", "8", "10", "20", "100")
    seed: int = 0

    def __post_init__(self) -> None:
        held_out = _percentage(self.validation)
        if not 0 <= held_out < 100:
            raise ValueError(f"the validation percentage must be in [0, 100), got {self.validation}")
        labelled = sorted({_percentage(text) for text in self.labelled})
        if labelled and not 0 < labelled[0] <= labelled[-1] <= 100:
            raise ValueError(f"labelled percentages must be in (0, 100], got {', '.join(self.labelled)}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"a seed must be in [0, 2**64), got {self.seed}")
        object.__setattr__(self, "validation", _text(held_out))
        object.__setattr__(self, "labelled", tuple(_text(value) for value in labelled))


def split_ids(labels: NDArray[np.int32], options: SplitOptions, parts: tuple[int, ...] = (0,)) -> dict[str, Ids]:
    """Returns subset name -> sorted sample ids: `train`, `validation`, and `train-P`, `all-P` for every percentage P.

    Args:
        labels: [N] class index of every sample, -1 = none. If there is no label at all, `validation` is a part of all
            samples and there are no labelled subsets; of parts without labels that follow others, it has none.
        options: how to split.
        parts: the first ids of the samples that were built together, which are split together.
    """
    held_out = Fraction(options.validation)
    chosen: dict[str, list[Ids]] = {"validation": []}
    for number, (start, stop) in enumerate(itertools.pairwise((*parts, len(labels)))):
        unlabelled = not (labels[:stop] >= 0).any()  # of what comes later, nothing is known yet
        for label, places in _orders(labels[start:stop], options.seed, number):
            if label < 0 and not unlabelled:
                continue
            order = start + places
            kept = len(order) - _validation_count(len(order), held_out)
            chosen["validation"].append(order[kept:])
            for text in options.labelled if label >= 0 else ():
                for family, population in (("train", kept), ("all", len(order))):
                    count = _count(population, Fraction(text))
                    chosen.setdefault(f"{family}-{text}", []).append(order[:count])
    subsets = {name: np.sort(np.concatenate(ids)) for name, ids in chosen.items()}
    subsets["train"] = np.setdiff1d(np.arange(len(labels)), subsets["validation"], assume_unique=True)
    return {name: subsets[name] for name in sorted(subsets, key=_reading_order)}


def write_splits(dataset: Dataset, options: SplitOptions, *, force: bool = False) -> dict[str, Ids]:
    """Splits a dataset and stores `splits/NAME.npy` and `splits/splits.json`; the same options give the same bytes.

    Excluded samples are in the files, where `Dataset.subset` leaves them out: what the others are in must not change.

    Raises:
        BuildError: splits made with other options are there and `force` is not set, or writing failed.
        DatasetError: the splits that are there are damaged and `force` is not set.
    """
    subsets = split_ids(dataset.table.label, options, dataset.manifest.parts)
    record = _describe(dataset, options, subsets)
    directory = dataset.path / SPLITS_FOLDER
    storage = storage_of(directory)
    if not force and (found := read_splits(dataset.path)):
        _refuse_other(dataset, directory, found, record)
    try:
        if storage.stat(NAME) and storage.read(NAME) != record.encode():
            storage.delete([NAME])  # so that no moment has an index that is not of its files
        for name, ids in subsets.items():
            storage.write(f"{name}.npy", encode_ids(ids))
        there = {found.name for found in storage.list() if found.name.endswith(".npy")}
        storage.delete(sorted(there - {f"{name}.npy" for name in subsets}))
        storage.write(NAME, record.encode())
    except OSError as error:
        raise BuildError(f"{directory}: cannot be written ({error.strerror})") from error
    return subsets


def check_splits(path: Place) -> list[str]:
    """Returns what is wrong with the splits of the dataset directory `path`, a line each; [] if nothing, or no splits.

    Every file's hash is checked and, unless the dataset itself is damaged, that the subsets are what the recorded
    options give for it.
    """
    directory = path / SPLITS_FOLDER
    try:
        record = read_splits(path)
    except DatasetError as error:
        return [str(error).removeprefix(f"{path}/")]
    if record is None:
        return [f"{SPLITS_FOLDER}/{NAME}: missing; run `selfie-data split` again"] if directory.exists() else []
    listed = {f"{name}.npy": entry.sha256 for name, entry in record.subsets.items()}
    there = {entry.name for entry in directory.iterdir()} if isinstance(path, Path) or path.listable else set()
    unlisted = sorted(there - {NAME, *listed})
    problems = [f"{SPLITS_FOLDER}/{name}: not listed in {NAME}" for name in unlisted]
    for name, digest in listed.items():
        problems += _check_file(directory / name, digest)
    return problems + _check_origin(path, record)


def _orders(labels: NDArray[np.int32], seed: int, part: int) -> Iterator[tuple[int, Ids]]:
    """Yields each class that occurs in a part, -1 for none, and the places of its samples in their random order."""
    by_class = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[by_class], return_index=True)
    for label, places in zip(classes.tolist(), np.split(by_class, starts[1:]), strict=True):
        stream = label if label >= 0 else _UNLABELLED_STREAM
        shuffled = Permutation(size=len(places), seed=seed, purpose=Purpose.SPLIT, epoch=part, stream=stream)
        yield label, places[shuffled(np.arange(len(places)))]


def _count(population: int, percentage: Fraction) -> int:
    """Exact share, rounded half up; a class that is there is represented."""
    return max(1, int(population * percentage / 100 + Fraction(1, 2))) if percentage else 0


def _validation_count(population: int, percentage: Fraction) -> int:
    """As `_count`, but at least one sample stays for training."""
    return min(_count(population, percentage), population - 1)


def _percentage(text: str) -> Fraction:
    try:
        return Fraction(text.strip().removesuffix("%"))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"a percentage is a number such as 10 or 2.5, got {text!r}") from None


def _text(percentage: Fraction) -> str:
    if percentage.denominator == 1:
        return str(percentage.numerator)
    text = f"{float(percentage):.6f}".rstrip("0")
    if Fraction(text) != percentage:
        raise ValueError(f"a percentage has at most six decimals, got {percentage}")
    return text


def _reading_order(name: str) -> tuple[int, str, Fraction]:
    family, _, percentage = name.partition("-")
    return bool(percentage), family, Fraction(percentage or 0)


def _describe(dataset: Dataset, options: SplitOptions, subsets: dict[str, Ids]) -> SplitsRecord:
    classes = max(1, len(dataset.class_names))
    return SplitsRecord(
        dataset=dataset.fingerprint,
        permutation_version=permutation.VERSION,
        options=StoredOptions(validation=options.validation, labelled=options.labelled, seed=options.seed),
        subsets={
            name: StoredSubset(
                samples=len(ids),
                class_counts=np.bincount(_labelled(dataset.table.label[ids]), minlength=classes).tolist(),
                sha256=hashlib.sha256(encode_ids(ids)).hexdigest(),
            )
            for name, ids in subsets.items()
        },
    )


def _labelled(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    return labels[labels >= 0]


def _refuse_other(dataset: Dataset, directory: Place, found: SplitsRecord, wanted: SplitsRecord) -> None:
    theirs, mine = ({**msgspec.to_builtins(each.options), "dataset": each.dataset} for each in (found, wanted))
    for key, value in mine.items():
        if theirs[key] != value and not (key == "dataset" and _was(dataset, found.dataset)):
            raise BuildError(
                f"{directory}: holds splits with {key} {theirs[key]}, asked for {value}; --force replaces them"
            )


def _was(dataset: Dataset, fingerprint: str) -> bool:
    """Says whether a dataset has this fingerprint, or had it before it grew or shrank."""
    return fingerprint in (dataset.fingerprint, *(each.fingerprint for each in dataset.manifest.lineage))


def _check_origin(path: Place, record: SplitsRecord) -> list[str]:
    try:
        dataset = open_dataset(path)
        labels = dataset.table.label
        options = SplitOptions(**msgspec.structs.asdict(record.options))
    except DatasetError:
        return []  # for the caller to report: nothing can be said about the splits of a damaged dataset
    except ValueError as error:
        return [f"{SPLITS_FOLDER}/{NAME}: damaged ({error})"]
    if not _was(dataset, record.dataset):
        return [f"{SPLITS_FOLDER}/{NAME}: made for another dataset, {record.dataset[:12]}…"]
    if record.samples < len(dataset):
        added = len(dataset) - record.samples
        return [f"{SPLITS_FOLDER}/{NAME}: made before {added:,} samples were added; run `selfie-data split` again"]
    wanted = _describe(dataset, options, split_ids(labels, options, dataset.manifest.parts))
    if msgspec.structs.replace(record, dataset=dataset.fingerprint) != wanted:
        return [f"{SPLITS_FOLDER}/{NAME}: not what its options give; run `selfie-data split --force`"]
    return []


def _check_file(path: Place, digest: str) -> list[str]:
    name = f"{SPLITS_FOLDER}/{path.name}"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return [f"{name}: missing"]
    except OSError as error:
        return [f"{name}: cannot be read ({error.strerror})"]
    return [] if found == digest else [f"{name}: changed, SHA-256 is {found[:12]}…, {NAME} says {digest[:12]}…"]
