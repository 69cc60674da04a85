"""`shard-NNNNNN.idx`: where each member of a shard begins, in the text format v1.2 of DALI's WebDataset reader.

    v1.2 2
    raw 512 3072 000000000000.raw cls 4096 1 000000000000.cls
    raw 5120 3072 000000000001.raw cls 8704 1 000000000001.cls

A line a sample; four words a member: extension, offset of the content, its length, the member's name.
"""

from collections.abc import Iterable
from typing import NamedTuple

from selfie_data.errors import DatasetError

_VERSION = "v1.2"


class Member(NamedTuple):
    """One member of a shard: its name, and the byte range of its content."""

    name: str
    offset: int
    length: int

    @property
    def extension(self) -> str:
        return self.name.partition(".")[2]


def format_index(samples: Iterable[tuple[Member, ...]]) -> bytes:
    """Returns the bytes of an index; a tuple of members a sample."""
    lines = [
        " ".join(f"{member.extension} {member.offset} {member.length} {member.name}" for member in members)
        for members in samples
    ]
    return "\n".join([f"{_VERSION} {len(lines)}", *lines, ""]).encode("ascii")


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
    if version != _VERSION or expected != len(samples):
        raise DatasetError(f"{name}: damaged, says {version} {count}, has {len(samples)} samples")
    return samples


def _members(words: list[str]) -> Iterable[Member]:
    for extension, offset, length, name in zip(*(iter(words),) * 4, strict=True):
        member = Member(name=name, offset=int(offset), length=int(length))
        if member.extension != extension:
            raise ValueError(f"member {name} listed as {extension}")
        yield member
