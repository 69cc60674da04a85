"""Reads pickles that hold only dicts, lists, tuples, strings, numbers and numpy arrays, and can build nothing else.

Python's `pickle` imports and calls whatever a file names, and even with an allow-list of names its C reader can be
made to allocate gigabytes (a memo index of 2**31, a length of 2**60). This is an interpreter of its own for the opcodes
that data needs: names are looked up in a short table of functions of our own (`pickle_names`), and what a
file can make it allocate is bounded by the file's own size (`pickle_machine`).

Python-2 pickles (the real CIFAR files) are read too: their strings are bytes. Text and byte keys both become `str`.

Source of the opcodes: `pickletools` and PEP 307, 3154, 574.
"""

import ast
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from selfie_data.errors import SourceError
from selfie_data.sources.readers.pickle_machine import MARK, Machine
from selfie_data.sources.readers.pickle_names import Name, build, find, reduce

_LONG_TEXT = 1 << 16
_MAX_BYTES = 4 << 30  # of a file; the largest official batch, of ImageNet at 64 px, has 1.6 GB
_CORRUPT = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    SyntaxError,
    RecursionError,
)


def load_pickle(stream: BinaryIO, size: int, *, label: str) -> Any:
    """Returns what the pickle holds.

    Args:
        stream: where the pickle begins; read to the end of the pickle.
        size: bytes the stream has at most.
        label: what errors call it.

    Raises:
        SourceError: not a pickle, truncated, corrupt, or it asks for something else than data.
    """
    if size > _MAX_BYTES:
        raise SourceError(f"{label} has {size} bytes; a pickle may have {_MAX_BYTES}")
    machine = Machine(stream, size, label)
    try:
        return _run(machine)
    except _CORRUPT as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise SourceError(f"{label} is a corrupt pickle: {reason}") from error


def text_keys(value: Any, *, label: str) -> dict[str, Any]:
    """Returns a pickled dict with `str` keys; SourceError if it is none."""
    if not isinstance(value, dict):
        raise SourceError(f"{label} holds a {type(value).__name__}, not the dict of a data batch")
    return {text(key): entry for key, entry in value.items()}


def text(value: Any) -> str:
    """Returns a string of either Python as `str`."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _run(machine: Machine) -> Any:
    while (code := machine.take(1)) != b".":
        machine.step()
        step = _OPCODES.get(code)
        if step is not None:
            step(machine)
        elif code in _REFUSED_OPCODES:
            machine.refuse(_REFUSED_OPCODES[code])
        else:
            raise ValueError(f"unknown opcode {code!r}")
    value = machine.result()
    if isinstance(value, Name):
        raise ValueError("it holds a name and no data")
    return value


_REFUSED_OPCODES = {
    b"o": "it builds an object of a class",
    b"i": "it builds an object of a class",
    b"\x81": "it builds an object of a class",
    b"\x92": "it builds an object of a class",
    b"P": "it refers to an object outside the file",
    b"Q": "it refers to an object outside the file",
    b"\x82": "it uses the extension registry",
    b"\x83": "it uses the extension registry",
    b"\x84": "it uses the extension registry",
    b"\x8f": "it builds a set",
    b"\x90": "it builds a set",
    b"\x91": "it builds a set",
    b"\x97": "it refers to a buffer outside the file",
}


def _legacy_string(machine: Machine) -> bytes:
    value = ast.literal_eval("b" + machine.line().decode("latin-1").strip())
    if type(value) is not bytes:
        raise ValueError("a string is malformed")
    return value


def _legacy_int(machine: Machine) -> int | bool:
    line = machine.line().removesuffix(b"L")
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > 40:
        raise ValueError("a number is too long")
    return int(line)


def _long(machine: Machine, size: int) -> int:
    if size > 16:
        machine.refuse("it holds a number of more than 16 bytes")
    return int.from_bytes(machine.take(size), "little", signed=True)


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: Machine) -> None:
    items = machine.since_mark()
    machine.top(list).extend(items)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(dict), [key, value])


def _set_many(machine: Machine) -> None:
    items = machine.since_mark()
    machine.set_items(machine.top(dict), items)


def _new_dict(machine: Machine) -> None:
    items = machine.since_mark()
    target: dict[Any, Any] = {}
    machine.set_items(target, items)
    machine.push(target)


def _tuple(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return step


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        raise ValueError("a name is malformed")
    find(machine, module, name)


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.push(value)


def _value(read: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.push(read(machine))


def _text(machine: Machine, size: int) -> str:
    data = machine.take(size)
    if size > _LONG_TEXT and np.frombuffer(data, dtype=np.uint8).max() >= 0xC4:  # one such character makes all wide
        machine.refuse("it holds a long text that is not latin-1")
    return str(data, "utf-8", "surrogatepass")


def _unicode(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.push(_text(machine, machine.number(layout)))


def _bytes(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(layout)))


_OPCODES: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda machine: machine.take(1),  # PROTO
    b"\x95": lambda machine: machine.take(8),  # FRAME: its length is of no use here
    b"(": _constant(MARK),
    b"0": lambda machine: machine.stack.pop(),
    b"1": lambda machine: machine.since_mark(),
    b"2": lambda machine: machine.push(machine.stack[-1]),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": _value(lambda machine: machine.take(1)[0]),
    b"M": _value(lambda machine: machine.number("<H")),
    b"J": _value(lambda machine: machine.number("<i")),
    b"I": _value(_legacy_int),
    b"L": _value(_legacy_int),
    b"\x8a": _value(lambda machine: _long(machine, machine.take(1)[0])),
    b"\x8b": _value(lambda machine: _long(machine, machine.number("<I"))),
    b"G": _value(lambda machine: struct.unpack(">d", machine.take(8))[0]),
    b"F": _value(lambda machine: float(machine.line())),
    b"U": _bytes("<B"),
    b"T": _bytes("<I"),
    b"S": _value(_legacy_string),
    b"C": _bytes("<B"),
    b"B": _bytes("<I"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),  # a bytearray; the arrays made of it are only read
    b"\x98": lambda _machine: None,  # READONLY_BUFFER
    b"X": _unicode("<I"),
    b"\x8c": _unicode("<B"),
    b"\x8d": _unicode("<Q"),
    b"V": _value(lambda machine: machine.line().decode("raw-unicode-escape")),
    b"]": lambda machine: machine.push([]),
    b"}": lambda machine: machine.push({}),
    b")": _constant(()),
    b"l": _value(lambda machine: machine.since_mark()),
    b"d": _new_dict,
    b"t": _value(lambda machine: tuple(machine.since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_many,
    b"g": lambda machine: machine.push(machine.memo[int(machine.line()[:12])]),
    b"h": lambda machine: machine.push(machine.memo[machine.take(1)[0]]),
    b"j": lambda machine: machine.push(machine.memo[machine.number("<I")]),
    b"p": lambda machine: machine.remember(int(machine.line()[:12])),
    b"q": lambda machine: machine.remember(machine.take(1)[0]),
    b"r": lambda machine: machine.remember(machine.number("<I")),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),  # MEMOIZE
    b"c": lambda machine: find(machine, machine.line().decode("utf-8"), machine.line().decode("utf-8")),
    b"\x93": _stack_global,
    b"R": reduce,
    b"b": build,
}
