"""What files and members of a dataset are called: `shard-000007.tar`, `shard-000007.idx`, `000000000042.raw`."""

import re

SUFFIX = {"raw": "raw", "jpeg": "jpg", "png": "png"}
"""Encoding -> extension of the member that holds the image."""

SPLITS_FOLDER = "splits"
"""The folder of stored subsets, inside the dataset."""

BUILD = ".build"
"""The folder of what only a build needs, inside the dataset, while it, an extension or a purge is under way."""

EXTENSION = "extension.json"
"""The file in it that says what a dataset is being extended by."""


def key_of(position: int) -> str:
    """Returns the key of a plan position: twelve digits."""
    return f"{position:012d}"


def shard_name(shard: int, *, generation: int = 0) -> str:
    """Returns the file name of a shard by its number in the plan, and by how often it was written again."""
    return f"shard-{shard:06d}.{generation}.tar" if generation else f"shard-{shard:06d}.tar"


def index_name(shard: str) -> str:
    """Returns the file name of the index of a shard, from the shard's."""
    return f"{shard.removesuffix('.tar')}.idx"


def rows_name(shard: str) -> str:
    """Returns the file name of the rows of a shard, from the shard's."""
    return f"{shard.removesuffix('.tar')}.rows"


def number_of(name: str) -> int | None:
    """Returns the number of the shard that a file belongs to by its name, None if it belongs to none."""
    found = re.fullmatch(r"shard-(\d{6,})(?:\.\d+)?\.(?:tar|idx|rows)", name)
    return int(found[1]) if found else None
