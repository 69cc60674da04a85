"""The state of a pickle that is being read: its stack, its memo, and what it may still build.

See `pickles`. Lengths are compared with the bytes that are left before anything is allocated; objects and
bytes made are counted.
"""

import struct
from typing import Any, BinaryIO, NoReturn

from selfie_data.errors import SourceError

_MAX_OBJECTS = 4_000_000  # ImageNet-32 needs 130,000 a file; each costs at most about 100 bytes
_MAX_LINE = 1 << 20
_GROWTH = 3  # bytes made may be this times the file: a Python-3 protocol-2 array is text, then bytes
_SLACK = 1 << 20


class Mark:
    """What MARK puts on the stack; never a value."""


MARK = Mark()


class Machine:
    """A stack, a memo, and what is left of the file and of the budgets."""

    def __init__(self, stream: BinaryIO, size: int, label: str) -> None:
        self.stream = stream
        self.left = size
        self.label = label
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.objects_left = _MAX_OBJECTS
        self.bytes_left = _GROWTH * size + _SLACK

    def refuse(self, reason: str) -> NoReturn:
        raise SourceError(f"{self.label} is a pickle that is refused: {reason}")

    def take(self, count: int) -> bytes:
        """Returns the next `count` bytes; nothing is allocated for bytes that are not there."""
        if not 0 <= count <= self.left:
            raise ValueError(f"it is truncated, {count} bytes wanted where {self.left} are left")
        self.spend(count if count > 64 else 0)
        data = self.stream.read(count)
        if len(data) < count:
            raise ValueError("it is truncated")
        self.left -= count
        return data

    def line(self) -> bytes:
        data = self.stream.readline(min(self.left, _MAX_LINE))
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise ValueError("it is truncated or a line is too long")
        return data[:-1]

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def spend(self, count: int) -> None:
        self.bytes_left -= count
        if self.bytes_left < 0:
            self.refuse("it builds far more than the file holds")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("its stack is broken")
        return value

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"a {kind.__name__} was expected")
        return value

    def since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("its stack is broken")

    def remember(self, index: int) -> None:
        if self.stack[-1] is MARK:
            raise ValueError("its stack is broken")
        self.memo[index] = self.stack[-1]

    def set_items(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a dict has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes):
                self.refuse(f"a dict has a key of type {type(key).__name__}; only strings are data")
            target[key] = value

    def step(self) -> None:
        """Counts one opcode."""
        self.objects_left -= 1
        if self.objects_left < 0:
            self.refuse(f"it has more than {_MAX_OBJECTS:,} steps")

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise ValueError("its stack is broken")
        return value

    def text(self, value: Any) -> str:
        """Returns a string of either Python as `str`, "" for anything else."""
        return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
