"""One pass over the opcodes of a pickle, which leaves a pickle that Python's own reader may be given.

What is dropped, refused or replaced, and why, is said in `pickles`. Lengths are compared with the bytes that are left
before anything is allocated. Source of the opcodes: `pickletools` and PEP 307, 3154, 574.
"""

import pickletools
import struct
from typing import BinaryIO, NoReturn

import numpy as np

_MAX_STEPS = 4_000_000  # ImageNet-32 needs 130,000 a file; each costs at most about 100 bytes
_MAX_LINE = 1 << 20  # bytes of a string or a name; protocols above 0 write none longer than a name
_MAX_NUMBER = 40  # bytes: a wider number is no label, and the conversion of a long decimal is quadratic
_LONG = 1 << 16  # bytes; longer strings are kept aside


class Refused(Exception):
    """The pickle is well formed, but holds something else than data."""


def refuse(reason: str) -> NoReturn:
    raise Refused(reason)


_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LENGTHS = {  # how pickletools says that an argument begins with its length, and the length's layout
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<I",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_REFUSED = {
    **dict.fromkeys(("OBJ", "INST", "NEWOBJ", "NEWOBJ_EX"), "it builds an object of a class"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "it refers to an object outside the file"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "it uses the extension registry"),
    **dict.fromkeys(("EMPTY_SET", "ADDITEMS", "FROZENSET"), "it builds a set"),
    "NEXT_BUFFER": "it refers to a buffer outside the file",
}
_DROPPED = {"PROTO", "FRAME", "READONLY_BUFFER"}  # say nothing about the data once all lengths are known
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_BYTES = {"SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_WHOLE_NUMBERS = {"LONG1", "LONG4"}
_LINES_OF_A_NUMBER = {"INT", "LONG", "FLOAT", "PUT", "GET"}


def _action(action: str, operands: int) -> bytes:
    """Opcodes that replace the `operands` topmost values by what an action of the reader makes of them."""
    pack = {0: b"\x85", 1: b"\x86", 2: b"\x87"}[operands]  # TUPLE1, 2, 3: the operands and the action's name
    return b"\x8c" + bytes([len(action)]) + action.encode() + pack + b"Q"


_ACTIONS = {
    "REDUCE": _action("call", 2),
    "BUILD": _action("set_state", 2),
    "SETITEM": b"\x86" + _action("set_items", 2),
    "SETITEMS": b"t" + _action("set_items", 2),
    "DICT": b"t" + _action("make_dict", 1),
}


class Opcodes:
    """One pass over a pickle.

    Attributes:
        harmless: a pickle of a tuple: what `bottom` makes, and the value.
        long: the strings that were kept aside.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.harmless = bytearray(b"(" + _action("bottom", 0))
        self.long: list[bytes | str] = []
        self._stream = stream
        self._left = size
        self._memo: dict[int, int] = {}  # the file's number of a value -> ours, without gaps

    def rewrite(self) -> None:
        for _ in range(_MAX_STEPS):
            code = self._take(1)
            opcode = _OPCODES.get(code)
            if opcode is None:
                raise ValueError(f"unknown opcode {code!r}")
            if opcode.name == "STOP":
                self.harmless += b"t."
                return
            self._add(code, opcode)
        refuse(f"it has more than {_MAX_STEPS:,} steps")

    def _add(self, code: bytes, opcode: pickletools.OpcodeInfo) -> None:
        name = opcode.name
        if name in _REFUSED:
            refuse(_REFUSED[name])
        argument = self._argument(opcode)
        if name in _PUTS:
            number = len(self._memo) if name == "MEMOIZE" else _number(name, argument)
            self.harmless += b"r" + struct.pack("<I", self._memo.setdefault(number, len(self._memo)))
        elif name in _GETS:
            self.harmless += b"j" + struct.pack("<I", self._memo[_number(name, argument)])
        elif name in _BYTES:
            self._add_string(b"B", argument)
        elif name in _TEXTS:
            self._add_string(b"X", argument)
        elif name in _WHOLE_NUMBERS:
            if len(argument) > 16:
                refuse("it holds a number of more than 16 bytes")
            self.harmless += b"\x8a" + bytes([len(argument)]) + argument
        elif name not in _DROPPED:
            self.harmless += _ACTIONS.get(name, code + argument)

    def _argument(self, opcode: pickletools.OpcodeInfo) -> bytes:
        """Returns an opcode's argument, without its length and with the ends of its lines."""
        if opcode.arg is None:
            return b""
        length = opcode.arg.n
        if length >= 0:
            return self._take(length)
        if length in _LENGTHS:
            layout = _LENGTHS[length]
            return self._take(struct.unpack(layout, self._take(struct.calcsize(layout)))[0])
        limit = _MAX_NUMBER if opcode.name in _LINES_OF_A_NUMBER else _MAX_LINE
        return self._line(limit) + (self._line(limit) if opcode.name == "GLOBAL" else b"")

    def _add_string(self, code: bytes, data: bytes) -> None:
        if len(data) <= _LONG:
            self.harmless += code + struct.pack("<I", len(data)) + data
            return
        if code == b"X" and np.frombuffer(data, dtype=np.uint8).max() >= 0xC4:  # one such character makes all wide
            refuse("it holds a long text that is not latin-1")
        self.harmless += b"J" + struct.pack("<i", len(self.long)) + _action("long", 1)
        self.long.append(data if code == b"B" else str(data, "utf-8", "surrogatepass"))

    def _take(self, count: int) -> bytes:
        """Returns the next `count` bytes; nothing is allocated for bytes that are not there."""
        if count > self._left:
            raise ValueError(f"it is truncated, {count} bytes wanted where {self._left} are left")
        data = self._stream.read(count)
        if len(data) < count:
            raise ValueError("it is truncated")
        self._left -= count
        return data

    def _line(self, limit: int) -> bytes:
        line = self._stream.readline(min(self._left, limit))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("it is truncated or a line is too long")
        return line


def _number(name: str, argument: bytes) -> int:
    return int(argument) if name in _LINES_OF_A_NUMBER else int.from_bytes(argument, "little")
