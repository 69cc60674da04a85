"""Selfie, the offline stage: images become checked, reproducible shards.

    from selfie_data import BuildOptions, build_shards, open_dataset, open_source
    build_shards(open_source("folder", "photographs"), "shards", BuildOptions(size=224))
    dataset = open_dataset("shards")

Importing this package imports nothing else; the first use of a name does. Errors stand in `selfie_data.errors`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfie_data.build.build_shards import build_shards
    from selfie_data.build.options import BuildOptions
    from selfie_data.dataset.manifest import Manifest
    from selfie_data.dataset.opened import Dataset, open_dataset
    from selfie_data.dataset.pixel_store import export_store, load_store
    from selfie_data.dataset.splits import SplitOptions, write_splits
    from selfie_data.dataset.verify import verify_dataset
    from selfie_data.source import ImageSource, SourceImage
    from selfie_data.sources import open_source

__version__ = "0.1.0"
__all__ = [
    "BuildOptions",
    "Dataset",
    "ImageSource",
    "Manifest",
    "SourceImage",
    "SplitOptions",
    "build_shards",
    "export_store",
    "load_store",
    "open_dataset",
    "open_source",
    "verify_dataset",
    "write_splits",
]

_HOMES = {
    "BuildOptions": "selfie_data.build.options",
    "Dataset": "selfie_data.dataset.opened",
    "ImageSource": "selfie_data.source",
    "Manifest": "selfie_data.dataset.manifest",
    "SourceImage": "selfie_data.source",
    "SplitOptions": "selfie_data.dataset.splits",
    "build_shards": "selfie_data.build.build_shards",
    "export_store": "selfie_data.dataset.pixel_store",
    "load_store": "selfie_data.dataset.pixel_store",
    "open_dataset": "selfie_data.dataset.opened",
    "open_source": "selfie_data.sources",
    "verify_dataset": "selfie_data.dataset.verify",
    "write_splits": "selfie_data.dataset.splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
