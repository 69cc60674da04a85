"""What a user may say about a source of images."""

from dataclasses import dataclass
from pathlib import Path

from selfie_data.storage.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Everything a layout may need to know; which layouts use what is said in `open_source`."""

    split: str = "train"
    labels: str = "fine"
    label_column: str | None = None
    image_column: str | None = None
    split_column: str | None = None
    config: str | None = None
    subtree: str | None = None
    class_level: int | None = None
    table: Path | None = None
    synsets: Path | None = None
    ground_truth: Path | None = None
    devkit: Path | None = None
    classes: tuple[str, ...] | None = None
    limit: int | None = None
    size: int = 32
    seed: int = 0
    checksum: bool | None = None
    listings: Place | None = None
