"""Which column of a table or a Parquet file is the label, the image or the split: by its name, or as asked for.

Upper and lower case are alike. Where several columns could be meant, the option that answers is named.
"""

import re
from collections.abc import Sequence

from selfie_data.errors import OptionError, SourceError
from selfie_data.sources.naming.file_names import printable

LABELS = (
    "label", "labels", "class", "classes", "class_name", "class_label", "cls", "category", "target", "targets", "y",
    "fine_label", "coarse_label",
)  # fmt: skip
SPLIT = "split"
LIKELY_SPLITS = (
    "subset", "partition", "data_split", "dataset_split", "split_name", "split_id", "train_test_split", "train_test",
    "is_test", "is_train", "is_training", "is_training_image", "is_val", "is_valid", "is_validation", "is_eval",
    "is_testing", "data_set", "usage",
)  # fmt: skip
_SEPARATORS = re.compile(r"[-/ ]+")  # "Data set", "train/test"


def spelled(names: Sequence[str], accepted: Sequence[str]) -> list[str]:
    """Returns the columns whose names are accepted, in their own order."""
    return [name for name in names if name.strip().lower() in accepted]


def asked_for(names: Sequence[str], wanted: str, *, option: str, where: str) -> str:
    """Returns the column that an option names: spelled like it, or else alike in all but upper and lower case."""
    found = [name for name in names if name == wanted] or spelled(names, (wanted.strip().lower(),))
    if len(found) != 1:
        raise OptionError(f"{where} has no column {printable(wanted)} for {option}; its columns: {listed(names)}")
    return found[0]


def only(found: Sequence[str], *, what: str, option: str, where: str) -> str | None:
    """Returns the one column found, None if there is none; OptionError if there are several."""
    if len(found) > 1:
        raise OptionError(f"{where} has several {what} columns ({listed(found)}): {option} NAME picks one")
    return found[0] if found else None


def split_column(names: Sequence[str], *, where: str, wanted: str | None = None, every: bool = False) -> str | None:
    """Returns the column that says which split a row is of.

    Args:
        names: the columns.
        where: what errors call the file.
        wanted: the column that --split-column names.
        every: rows of all splits are read, so that none need be told apart.
    """
    if wanted is not None:
        return asked_for(names, wanted, option="--split-column", where=where)
    found = spelled(names, (SPLIT,))
    if not found and not every and (likely := _likely(names)):
        raise OptionError(
            f"{where}: does the column {listed(likely)} tell training from test data? --split-column "
            f"{printable(likely[0])} reads it, --split all takes all rows"
        )
    if len(found) > 1:
        raise SourceError(f"{where} has several columns called split ({listed(found)}); rename all but one")
    return found[0] if found else None


def _likely(names: Sequence[str]) -> list[str]:
    return [name for name in names if _SEPARATORS.sub("_", name.strip().lower()) in LIKELY_SPLITS]


def listed(names: Sequence[str]) -> str:
    """Returns names for an error."""
    return ", ".join(map(printable, names[:8])) + (", …" if len(names) > 8 else "") or "none"
