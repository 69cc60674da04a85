"""What DALI's errors say: which operator failed, why, and at which sample.

One of them, as DALI words it:

    Critical error in pipeline:
    Error in CPU operator `nvidia.dali.fn.decoders.image`,
    which was used in the pipeline definition with the following traceback:
      ...
    encountered:
    Failed to decode sample #2 :
    C++ context: ...
    Current pipeline object is no longer valid.
"""

import re
from typing import NamedTuple

_OPERATOR = re.compile(r"operator `(?:nvidia\.dali\.)?([\w.]+)`")
_CAUSE = re.compile(r"encountered:\s*(.+?)\s*(?=C\+\+ context|Current pipeline object|$)", re.DOTALL)
_SAMPLE = re.compile(r"sample #?(\d+)")
_FIRST = "Critical error in pipeline:"


class DaliError(NamedTuple):
    """An error of DALI's, read.

    Attributes:
        operator: that failed, as `fn.resize`; `its pipeline` where none is named.
        cause: what it met, in one line.
        row: of the batch's sample that it names, None if it names none.
    """

    operator: str
    cause: str
    row: int | None

    @property
    def decoding(self) -> bool:
        """Whether an image could not be decoded."""
        return "decoders" in self.operator


def read_error(text: str) -> DaliError:
    """Returns what the text of an error says."""
    operator, cause = _OPERATOR.search(text), _CAUSE.search(text)
    lines = (cause.group(1) if cause else text.replace(_FIRST, "")).split()
    found = " ".join(lines).rstrip(" :") or "it does not say why"
    row = _SAMPLE.search(found)
    return DaliError(operator.group(1) if operator else "its pipeline", found, int(row.group(1)) if row else None)
