"""Reads pickles that hold only dicts, lists, tuples, strings, numbers and numpy arrays, and can build nothing else.

Python's `pickle` imports and calls whatever a file names, and even with an allow-list of names its C reader can be
made to allocate gigabytes (a memo index of 2**31, a length of 2**60) or to hash and expand nested data for years. So

    file -> one pass over its opcodes -> a pickle of harmless opcodes -> `pickle.Unpickler` -> data

The pass (`Opcodes`) compares lengths with the bytes that are left before anything is allocated, numbers the memo anew,
and turns each opcode that acts on what was built (call, set state, set items of a dict) into a call of a function of
this file, through the persistent ids of pickle: `_Unpickler.persistent_load`. Those functions check what they get.
Long strings are kept aside, so that the pixels of a batch are in memory once.

Python-2 pickles (the real CIFAR files) are read too: their strings are bytes. Text and byte keys both become `str`.
Source of the opcodes: `pickletools` and PEP 307, 3154, 574.
"""

import io
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np

from selfie_data.errors import SourceError
from selfie_data.sources.readers.pickle_opcodes import Opcodes, Refused, refuse

_MAX_BYTES = 4 << 30  # of a file; the largest official batch, of ImageNet at 64 px, has 1.6 GB
_GROWTH = 2  # bytes the functions here may make for each of the file: a Python-3 protocol-2 array is text, then bytes
_SLACK = 1 << 20  # bytes they may make for a file of any size
_DTYPE_KINDS = "biufS"  # of numpy: numbers and byte strings
_CORRUPT = (  # what Python's reader, numpy and the conversions of numbers raise for damaged bytes
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
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
    try:
        opcodes = Opcodes(stream, size)
        opcodes.rewrite()
        return _Unpickler(opcodes, budget=_GROWTH * size + _SLACK).load_one()
    except Refused as error:
        raise SourceError(f"{label} is a pickle that is refused: {error}") from error
    except _CORRUPT as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise SourceError(f"{label} is a corrupt pickle: {reason}") from error


def load_dict(stream: BinaryIO, size: int, *, label: str) -> dict[str, Any]:
    """Returns a pickled dict with `str` keys; as `load_pickle`, and SourceError if it is no dict."""
    value = load_pickle(stream, size, label=label)
    if not isinstance(value, dict):
        raise SourceError(f"{label} holds a {type(value).__name__}, not the dict of a data batch")
    return {text(key): entry for key, entry in value.items()}


def text(value: Any) -> str:
    """Returns a string of either Python as `str`."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class _Unpickler(pickle.Unpickler):
    """Python's own reader, for what `Opcodes` leaves. A name is a function of this file; only "call" calls it."""

    def __init__(self, opcodes: Opcodes, *, budget: int) -> None:
        super().__init__(io.BytesIO(opcodes.harmless), encoding="bytes")
        self._long = opcodes.long
        self._budget = budget

    def load_one(self) -> Any:
        match self.load():
            case (bottom, value) if bottom is _BOTTOM and value is not _BOTTOM:
                if isinstance(value, FunctionType):
                    raise ValueError("it holds a name and no data")
                return value
        raise ValueError("its stack is broken")

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands for a name; nothing is imported. `numpy.core` and `numpy._core` are one."""
        found = _NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            refuse(f"it asks for {module[:60]!r} {name[:60]!r}; only plain data and numpy arrays are read")
        return found

    def persistent_load(self, pid: tuple[Any, ...]) -> Any:
        """Does what `Opcodes` put in an opcode's place: the operands, then the action's name."""
        match pid:
            case ("bottom",):
                return _BOTTOM
            case (index, "long"):
                return self._long[index]
            case (items, "make_dict"):
                return _set_items({}, items)
            case (target, items, "set_items"):
                return _set_items(target, items)
            case (FunctionType() as function, tuple(arguments), "call"):  # all functions here are names
                return function(self, arguments)
            case (_, _, "call"):
                refuse("it calls something that is not a function of numpy's arrays")
            case (np.ndarray() as array, tuple(state), "set_state"):
                return _fill_array(self, array, state)
            case (np.dtype() as dtype, tuple(state), "set_state"):
                return _set_byte_order(dtype, state)
            case (_, _, "set_state"):
                refuse("it sets the state of something that is no numpy array")
        raise AssertionError(f"unknown action {pid[-1]!r}")

    def spend(self, count: int) -> None:
        """Counts bytes that are made of what is there already."""
        self._budget -= count
        if self._budget < 0:
            refuse("it builds far more than the file holds")


_BOTTOM = object()  # what lies below the one value that a pickle leaves on its stack


def _set_items(target: Any, items: tuple[Any, ...]) -> dict[Any, Any]:
    if type(target) is not dict or len(items) % 2:
        raise ValueError("items are set of something that is no dict, or a key has no value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes):  # to hash nested tuples can take years
            refuse(f"a dict has a key of type {type(key).__name__}; only strings are data")
        target[key] = value
    return target


# ---- The names a pickle may mention: bytes, and numpy arrays whose shape and dtype account for exactly their bytes.
# Arguments are matched by type before they are compared: a comparison with an array costs as much as the array has.


def _encode(reader: _Unpickler, arguments: tuple[Any, ...]) -> bytes:
    """`_codecs.encode` for latin-1 only: how Python 3 writes bytes at protocol 2."""
    match arguments:
        case (str(value), str("latin1" | "latin-1") | bytes(b"latin1" | b"latin-1")):
            reader.spend(len(value))
            return value.encode("latin-1")
    refuse("it encodes text in another way than latin-1")


def _empty_bytes(_reader: _Unpickler, arguments: tuple[Any, ...]) -> bytes:
    """`bytes()`: how Python 3 writes b"" before protocol 3. With a number it would allocate."""
    if arguments:
        refuse("it builds bytes in an unusual way")
    return b""


def _ndarray(_reader: _Unpickler, _arguments: tuple[Any, ...]) -> NoReturn:
    refuse("it builds an array in an unusual way")  # the name is an argument of `_reconstruct` and is never called


def _reconstruct(_reader: _Unpickler, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """An empty array; its state follows."""
    match arguments:
        case (kind, (int(0),), _) if kind is _ndarray:
            return np.empty(0, dtype=np.uint8)
    refuse("it builds an array in an unusual way")


def _dtype(_reader: _Unpickler, arguments: tuple[Any, ...]) -> np.dtype[Any]:
    """A private dtype, as the state that follows changes it in place."""
    code = text(arguments[0]) if arguments and isinstance(arguments[0], str | bytes) else ""
    if not code[:1].isalpha() or code[0] not in _DTYPE_KINDS or not code[1:].isdigit() or len(code) > 6:
        refuse(f"it holds an array of dtype {code[:20]!r}; only numbers are read")
    return np.dtype(code, copy=True)


def _set_byte_order(target: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    match state:
        case (int(3 | 4), str(order) | bytes(order), None, None, None, _, _, _, *_) if text(order) in tuple("<>|="):
            if text(order) in tuple("<>") and target.kind in "iuf":
                cast(Any, target).__setstate__((3, text(order), None, None, None, -1, -1, 0))
            return target
    refuse("it holds an array of an unusual dtype")


def _fill_array(reader: _Unpickler, target: np.ndarray[Any, Any], state: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    match state:
        case (int(1), shape, dtype, fortran, bytes(data)):
            if target.size:
                raise ValueError("an array is filled twice")
            _check_extent(shape, dtype, len(data))
            reader.spend(0 if dtype.isnative else len(data))
            # Keeps `data`, without a copy when it is aligned.
            cast(Any, target).__setstate__((1, shape, dtype, bool(fortran), data))
            return target
    refuse("it holds an array of objects, or one of an unknown state")


def _from_buffer(_reader: _Unpickler, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """`_frombuffer`: how numpy writes arrays at protocol 5."""
    match arguments:
        case (bytes(data), dtype, shape, str("C" | "F" as order)):
            _check_extent(shape, dtype, len(data))
            return np.frombuffer(data, dtype=dtype).reshape(shape, order="C" if order == "C" else "F")
    refuse("it builds an array in an unusual way")


def _scalar(reader: _Unpickler, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (dtype, bytes(data)):
            _check_extent((), dtype, len(data))
            reader.spend(len(data))
            return np.frombuffer(data, dtype=dtype)[0]
    refuse("it builds a number in an unusual way")


def _check_extent(shape: Any, dtype: Any, available: int) -> None:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or dtype.itemsize == 0:
        refuse("it holds an array of an unusual dtype")
    if type(shape) is not tuple or len(shape) > 4 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("an array has no valid shape")
    wanted = dtype.itemsize
    for side in shape:
        wanted *= side
    if wanted != available:
        raise ValueError(f"an array of shape {shape} needs {wanted} bytes and has {available}")


_NAMES: dict[tuple[str, str], Callable[[_Unpickler, tuple[Any, ...]], Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}
