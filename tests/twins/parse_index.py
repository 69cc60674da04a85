"""Reads what `selfie_data.dataset.shard.format_index` writes."""

from collections.abc import Iterable

from selfie_data.dataset.shard import INDEX_VERSION, Member
from selfie_data.errors import DatasetError


def parse_index(data: bytes, *, name: str) -> list[tuple[Member, ...]]:
    """Returns a tuple of members a sample.

    Args:
        data: the file's bytes.
        name: what errors call it.

    Raises:
        DatasetError: it is no index of this version, or is cut short.
    """
    try:
        first, *lines = data.decode("ascii").splitlines()
        version, count = first.split()
        expected = int(count)
        samples = [tuple(_members(line.split())) for line in lines]
    except ValueError as error:
        raise DatasetError(f"{name}: damaged, not an index ({error})") from error
    if version != INDEX_VERSION or expected != len(samples):
        raise DatasetError(f"{name}: damaged, says {version} {count}, has {len(samples)} samples")
    return samples


def _members(words: list[str]) -> Iterable[Member]:
    for extension, offset, length, name in zip(*(iter(words),) * 4, strict=True):
        member = Member(name=name, offset=int(offset), length=int(length))
        if member.extension != extension:
            raise ValueError(f"member {name} listed as {extension}")
        yield member
