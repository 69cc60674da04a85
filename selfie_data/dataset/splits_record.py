"""`splits/splits.json`: which subsets are stored, how they were chosen, and the hash of each one's file."""

import json

import msgspec

from selfie_data.dataset.names import SPLITS_FOLDER
from selfie_data.errors import DatasetError
from selfie_data.storage.place import Place

SCHEMA = 1
NAME = "splits.json"


class StoredSubset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One subset: number of samples, number of samples a class, SHA-256 of `NAME.npy`."""

    samples: int
    class_counts: list[int]
    sha256: str


class StoredOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `selfie_data.dataset.splits` that the subsets were chosen with."""

    validation: str
    labelled: tuple[str, ...]
    seed: int


class SplitsRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says, in its order; `dataset` is the fingerprint of the dataset that was split."""

    schema: int = SCHEMA
    dataset: str
    permutation_version: int
    options: StoredOptions
    subsets: dict[str, StoredSubset]

    @property
    def samples(self) -> int:
        """How many samples the dataset had."""
        return self.subsets["train"].samples + self.subsets["validation"].samples

    def encode(self) -> bytes:
        """Returns the bytes of the file: one subset a line, so that a thousand counts a class stay readable."""
        record = msgspec.to_builtins(self)
        subsets = ",\n".join(f'  "{name}": {json.dumps(entry)}' for name, entry in record.pop("subsets").items())
        head = ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in record.items())
        return f'{{\n{head},\n "subsets": {{\n{subsets}\n }}\n}}\n'.encode()


def read_splits(dataset: Place) -> SplitsRecord | None:
    """Returns what `splits/splits.json` of a dataset directory says; None if there is no such file.

    Raises:
        DatasetError: it is damaged, or cannot be read.
    """
    file = dataset / SPLITS_FOLDER / NAME
    try:
        record = msgspec.json.decode(file.read_bytes(), type=SplitsRecord)
        if not {"train", "validation"} <= record.subsets.keys():
            raise ValueError("it lacks train or validation")
        return record
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: damaged ({error}); `selfie-data split --force` makes the splits anew") from error
