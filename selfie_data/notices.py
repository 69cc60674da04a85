"""What a source holds that is not used, or is used by a guess: counted by reason, never passed over in silence.

A source gathers `Notices` and offers them as its attribute `notices` (of a source that is spooled: complete once it is
read). Whoever leaves something out or guesses adds a line; all that is told follows from it:

    notices = Notices()
    notices.add("files with the suffix .json", "train/0001.json")     # the reason: a plural noun; a name in the source
    notices.add("images without a label in a .cls file beside them", "train/0002.jpg")
    RangeSource(…, notices=notices)                # read in place: handed over with the images
    SpooledSource.of_files(…, notices=notices)     # known when it is opened, and
    Resolved(order, labelled, notices)             # … when all rows are known: `Layout.resolve`; the two are joined

What shows only when images are decoded stands in `Decoded.notices` and `Stored.notices`; the build adds the names. It
says everything on the terminal in one line and in its JSON, writes `summary()` into the manifest and every name into
the file `NAME` of the dataset, whose hash the manifest holds. Without notices there is neither entry nor file.
What can mix training with test data, or change labels, is no notice but an error that names the option to answer it.
"""

import json
from collections.abc import Sequence

import msgspec

NAME = "notices.json"
EXAMPLES = 20
_REASONS = 100  # that stand in the manifest by themselves
_SAID = 8  # reasons in the line on the terminal
_REST = f"of other kinds, all in {NAME}"


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something was left out or guessed for one reason, and the first names."""

    reason: str
    count: int
    examples: tuple[str, ...]

    @property
    def text(self) -> str:
        """Reason, count and first example for people."""
        return f"{self.reason}: {self.count:,} ({self.examples[0]}{', …' if self.count > 1 else ''})"


class Notices:
    """Names by reason. Pickling leaves them behind: only the process that writes the manifest needs them."""

    def __init__(self, *parts: "Notices") -> None:
        self._names: dict[str, list[str]] = {}
        for part in parts:
            for reason, names in part._names.items():
                self._names.setdefault(reason, []).extend(names)

    def __reduce__(self) -> tuple[object, ...]:
        return Notices, ()

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, reason: str, name: str) -> None:
        """Adds one thing by its name in the source, which must be printable."""
        self._names.setdefault(reason, []).append(name)

    def rename(self, reason: str, other: str) -> None:
        """Counts what has one reason under another, which may have names of its own."""
        for name in self._names.pop(reason, ()):
            self.add(other, name)

    def summary(self) -> tuple[Notice, ...]:
        """Returns a notice a reason, the largest first; the smallest of very many are one."""
        found = [
            Notice(reason=reason, count=len(names), examples=tuple(sorted(names)[:EXAMPLES]))
            for reason, names in self._sorted()
        ]
        if len(found) <= _REASONS:
            return tuple(found)
        rest = found[_REASONS - 1 :]
        examples = tuple(notice.examples[0] for notice in rest[:EXAMPLES])
        return (
            *found[: _REASONS - 1],
            Notice(reason=_REST, count=sum(notice.count for notice in rest), examples=examples),
        )

    @classmethod
    def from_json(cls, content: bytes) -> "Notices":
        """The inverse of `to_json`."""
        notices = cls()
        notices._names = msgspec.json.decode(content, type=dict[str, list[str]])
        return notices

    def to_json(self) -> bytes:
        """Returns the content of the file `NAME`: an object of reason -> names, a name a line, in a fixed order."""
        every = {reason: sorted(names) for reason, names in self._sorted()}
        return json.dumps(every, indent=0).encode() + b"\n"

    def _sorted(self) -> list[tuple[str, list[str]]]:
        return sorted(self._names.items(), key=lambda item: (-len(item[1]), item[0]))


def notices_of(source: object) -> Notices:
    """Returns the notices of a source; a source of a caller's own need not have any."""
    found: Notices | None = getattr(source, "notices", None)
    return found or Notices()


def say(notices: Sequence[Notice]) -> str:
    """Returns the line for the terminal, "" if there is nothing to say."""
    if not notices:
        return ""
    more = f"; and {len(notices) - _SAID} more reasons" if len(notices) > _SAID else ""
    return f"not used, or used by a guess: {'; '.join(notice.text for notice in notices[:_SAID])}{more}"
