"""Reads pickles that hold only dicts, lists, tuples, strings, numbers and numpy arrays, and can build nothing else.

Python's `pickle` imports and calls whatever a file names, and even with an allow-list of names its C reader can be
made to allocate gigabytes (a memo index of 2**31, a length of 2**60). This is an interpreter of its own for the
opcodes that data needs: names are looked up in a table of five functions, lengths are compared with the bytes that are
left before anything is allocated, and objects and bytes made are counted.

Python-2 pickles (the real CIFAR files) are read too: their strings are bytes. Text and byte keys both become `str`.

Source of the opcodes: `pickletools` and PEP 307, 3154, 574.
"""

import ast
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np

from selfie_data.errors import SourceError

_MAX_OBJECTS = 4_000_000  # ImageNet-32 needs 130,000 a file; each costs at most about 100 bytes
_MAX_LINE = 1 << 20
_LONG_TEXT = 1 << 16
_GROWTH = 3  # bytes made may be this times the file: a Python-3 protocol-2 array is text, then bytes
_SLACK = 1 << 20
_DTYPE_KINDS = "biufS"


def load_pickle(stream: BinaryIO, size: int, *, label: str) -> Any:
    """Returns what the pickle holds.

    Args:
        stream: where the pickle begins; read to the end of the pickle.
        size: bytes the stream has at most.
        label: what errors call it.

    Raises:
        SourceError: not a pickle, truncated, corrupt, or it asks for something else than data.
    """
    reader = _Reader(stream, size, label)
    try:
        return reader.run()
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
        SyntaxError,
        RecursionError,
    ) as error:
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


class _Name:
    """A global a pickle may mention. It is not the thing itself: only REDUCE knows what to do with it."""

    def __init__(self, call: Callable[["_Reader", tuple[Any, ...]], Any]) -> None:
        self.call = call


class _Mark:
    pass


_MARK = _Mark()


class _Reader:
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
        if value is _MARK:
            raise ValueError("its stack is broken")
        return value

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"a {kind.__name__} was expected")
        return value

    def since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("its stack is broken")

    def remember(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            raise ValueError("its stack is broken")
        self.memo[index] = self.stack[-1]

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                return self.result()
            self.objects_left -= 1
            if self.objects_left < 0:
                self.refuse(f"it has more than {_MAX_OBJECTS:,} steps")
            step = _OPCODES.get(code)
            if step is None:
                what = _REFUSED_OPCODES.get(code)
                if what is not None:
                    self.refuse(what)
                raise ValueError(f"unknown opcode {code!r}")
            step(self)

    def result(self) -> Any:
        value = self.pop()
        if self.stack or isinstance(value, _Name):
            raise ValueError("its stack is broken")
        return value

    def set_items(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a dict has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes):
                self.refuse(f"a dict has a key of type {type(key).__name__}; only strings are data")
            target[key] = value

    def find(self, module: str, name: str) -> None:
        found = _NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            self.refuse(f"it asks for {module[:60]!r} {name[:60]!r}; only plain data and numpy arrays are read")
        self.push(found)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            self.refuse("it calls something that is not a function of numpy's arrays")
        self.push(function.call(self, arguments))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if type(state) is not tuple:
            self.refuse("it sets the state of something that is no numpy array")
        if type(target) is np.ndarray:
            _set_array(self, target, state)
        elif isinstance(target, np.dtype):
            _set_dtype(self, target, state)
        else:
            self.refuse("it sets the state of something that is no numpy array")


def _encode(reader: _Reader, arguments: tuple[Any, ...]) -> bytes:
    """`_codecs.encode` for latin-1 only: how Python 3 writes bytes at protocol 2."""
    value, encoding = arguments if len(arguments) == 2 else (None, None)
    if type(value) is not str or encoding not in ("latin1", "latin-1", b"latin1", b"latin-1"):
        reader.refuse("it encodes text in another way than latin-1")
    reader.spend(len(value))
    return value.encode("latin-1")


def _empty_array(reader: _Reader, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    if len(arguments) != 3 or arguments[0] is not _NAMES["numpy", "ndarray"] or arguments[1] != (0,):
        reader.refuse("it builds an array in an unusual way")
    return np.empty(0, dtype=np.uint8)


def _dtype(reader: _Reader, arguments: tuple[Any, ...]) -> np.dtype[Any]:
    """A private dtype, as the state that follows changes it in place."""
    code = text(arguments[0]) if arguments and isinstance(arguments[0], str | bytes) else ""
    if not code[:1].isalpha() or code[0] not in _DTYPE_KINDS or not code[1:].isdigit() or len(code) > 6:
        reader.refuse(f"it holds an array of dtype {code[:20]!r}; only numbers are read")
    return np.dtype(code, copy=True)


def _set_dtype(reader: _Reader, target: np.dtype[Any], state: tuple[Any, ...]) -> None:
    order = text(state[1]) if len(state) >= 8 and isinstance(state[1], str | bytes) else ""
    if state[:1] not in ((3,), (4,)) or order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
        reader.refuse("it holds an array of an unusual dtype")
    if order in "<>" and target.itemsize > 1:
        cast(Any, target).__setstate__((3, order, None, None, None, -1, -1, 0))


def _set_array(reader: _Reader, target: np.ndarray[Any, Any], state: tuple[Any, ...]) -> None:
    if len(state) != 5 or state[0] != 1:
        raise ValueError("an array has an unknown state")
    _, shape, dtype, fortran, data = state
    if type(data) is not bytes:
        reader.refuse("it holds an array of objects")
    if target.size:
        raise ValueError("an array is filled twice")
    _check_extent(reader, shape, dtype, len(data))
    if not dtype.isnative:
        reader.spend(len(data))
    state = (1, shape, dtype, bool(fortran), data)
    cast(Any, target).__setstate__(state)  # keeps `data`, without a copy when it is aligned


def _from_buffer(reader: _Reader, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """`_frombuffer`: how numpy writes arrays at protocol 5."""
    if len(arguments) != 4 or not isinstance(arguments[0], bytes) or arguments[3] not in ("C", "F"):
        reader.refuse("it builds an array in an unusual way")
    data, dtype, shape, order = arguments
    _check_extent(reader, shape, dtype, len(data))
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="C" if order == "C" else "F")


def _scalar(reader: _Reader, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or type(arguments[1]) is not bytes:
        reader.refuse("it builds a number in an unusual way")
    _check_extent(reader, (), arguments[0], len(arguments[1]))
    return np.frombuffer(arguments[1], dtype=arguments[0])[0]


def _check_extent(reader: _Reader, shape: Any, dtype: Any, available: int) -> None:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or dtype.itemsize == 0:
        reader.refuse("it holds an array of an unusual dtype")
    if type(shape) is not tuple or len(shape) > 4 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("an array has no valid shape")
    wanted = dtype.itemsize
    for side in shape:
        wanted *= side
    if wanted != available:
        raise ValueError(f"an array of shape {shape} needs {wanted} bytes and has {available}")


def _empty_bytes(reader: _Reader, arguments: tuple[Any, ...]) -> bytes:
    """`bytes()`: how Python 3 writes b"" before protocol 3. With a number it would allocate."""
    if arguments:
        reader.refuse("it builds bytes in an unusual way")
    return b""


def _never(reader: _Reader, _arguments: tuple[Any, ...]) -> NoReturn:
    reader.refuse("it builds an array in an unusual way")


_NAMES = {
    ("_codecs", "encode"): _Name(_encode),
    ("__builtin__", "bytes"): _Name(_empty_bytes),
    ("numpy", "ndarray"): _Name(_never),
    ("numpy", "dtype"): _Name(_dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Name(_empty_array),
    ("numpy.core.multiarray", "scalar"): _Name(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Name(_from_buffer),
}

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


def _legacy_string(reader: _Reader) -> bytes:
    value = ast.literal_eval("b" + reader.line().decode("latin-1").strip())
    if type(value) is not bytes:
        raise ValueError("a string is malformed")
    return value


def _legacy_int(reader: _Reader) -> int | bool:
    line = reader.line().removesuffix(b"L")
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > 40:
        raise ValueError("a number is too long")
    return int(line)


def _long(reader: _Reader, size: int) -> int:
    if size > 16:
        reader.refuse("it holds a number of more than 16 bytes")
    return int.from_bytes(reader.take(size), "little", signed=True)


def _append(reader: _Reader) -> None:
    value = reader.pop()
    reader.top(list).append(value)


def _appends(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.top(list).extend(items)


def _set_item(reader: _Reader) -> None:
    value, key = reader.pop(), reader.pop()
    reader.set_items(reader.top(dict), [key, value])


def _set_many(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.set_items(reader.top(dict), items)


def _new_dict(reader: _Reader) -> None:
    items = reader.since_mark()
    target: dict[Any, Any] = {}
    reader.set_items(target, items)
    reader.push(target)


def _tuple(count: int) -> Callable[[_Reader], None]:
    def step(reader: _Reader) -> None:
        items = [reader.pop() for _ in range(count)]
        reader.push(tuple(reversed(items)))

    return step


def _stack_global(reader: _Reader) -> None:
    name, module = reader.pop(), reader.pop()
    if type(name) is not str or type(module) is not str:
        raise ValueError("a name is malformed")
    reader.find(module, name)


def _constant(value: Any) -> Callable[[_Reader], None]:
    return lambda reader: reader.push(value)


def _value(read: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.push(read(reader))


def _text(reader: _Reader, size: int) -> str:
    data = reader.take(size)
    if size > _LONG_TEXT and np.frombuffer(data, dtype=np.uint8).max() >= 0xC4:  # one such character makes all wide
        reader.refuse("it holds a long text that is not latin-1")
    return str(data, "utf-8", "surrogatepass")


def _unicode(layout: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.push(_text(reader, reader.number(layout)))


def _bytes(layout: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.push(reader.take(reader.number(layout)))


_OPCODES: dict[bytes, Callable[[_Reader], Any]] = {
    b"\x80": lambda reader: reader.take(1),  # PROTO
    b"\x95": lambda reader: reader.take(8),  # FRAME: its length is of no use here
    b"(": _constant(_MARK),
    b"0": lambda reader: reader.stack.pop(),
    b"1": lambda reader: reader.since_mark(),
    b"2": lambda reader: reader.push(reader.stack[-1]),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": _value(lambda reader: reader.take(1)[0]),
    b"M": _value(lambda reader: reader.number("<H")),
    b"J": _value(lambda reader: reader.number("<i")),
    b"I": _value(_legacy_int),
    b"L": _value(_legacy_int),
    b"\x8a": _value(lambda reader: _long(reader, reader.take(1)[0])),
    b"\x8b": _value(lambda reader: _long(reader, reader.number("<I"))),
    b"G": _value(lambda reader: struct.unpack(">d", reader.take(8))[0]),
    b"F": _value(lambda reader: float(reader.line())),
    b"U": _bytes("<B"),
    b"T": _bytes("<I"),
    b"S": _value(_legacy_string),
    b"C": _bytes("<B"),
    b"B": _bytes("<I"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),  # a bytearray; the arrays made of it are only read
    b"\x98": lambda _reader: None,  # READONLY_BUFFER
    b"X": _unicode("<I"),
    b"\x8c": _unicode("<B"),
    b"\x8d": _unicode("<Q"),
    b"V": _value(lambda reader: reader.line().decode("raw-unicode-escape")),
    b"]": lambda reader: reader.push([]),
    b"}": lambda reader: reader.push({}),
    b")": _constant(()),
    b"l": _value(lambda reader: reader.since_mark()),
    b"d": _new_dict,
    b"t": _value(lambda reader: tuple(reader.since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_many,
    b"g": lambda reader: reader.push(reader.memo[int(reader.line()[:12])]),
    b"h": lambda reader: reader.push(reader.memo[reader.take(1)[0]]),
    b"j": lambda reader: reader.push(reader.memo[reader.number("<I")]),
    b"p": lambda reader: reader.remember(int(reader.line()[:12])),
    b"q": lambda reader: reader.remember(reader.take(1)[0]),
    b"r": lambda reader: reader.remember(reader.number("<I")),
    b"\x94": lambda reader: reader.remember(len(reader.memo)),  # MEMOIZE
    b"c": lambda reader: reader.find(reader.line().decode("utf-8"), reader.line().decode("utf-8")),
    b"\x93": _stack_global,
    b"R": lambda reader: reader.reduce(),
    b"b": lambda reader: reader.build(),
}
