"""`shard-NNNNNN.idx`: where each member of a shard begins, in the text format v1.2 of DALI's WebDataset reader.

    v1.2 2
    raw 512 3072 000000000000.raw cls 4096 1 000000000000.cls
    raw 5120 3072 000000000001.raw cls 8704 1 000000000001.cls

A line a sample; four words a member: extension, offset of the content, its length, the member's name.
"""

from collections.abc import Iterable
from typing import NamedTuple

VERSION = "v1.2"


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
    return "\n".join([f"{VERSION} {len(lines)}", *lines, ""]).encode("ascii")
