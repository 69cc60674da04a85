"""The names a pickle may mention, and what stands for them: enough for bytes and numpy arrays of plain numbers.

Nothing is imported by name. `_codecs.encode` is a function that knows latin-1 only; `numpy.core` and `numpy._core` are
one; an array is made only if its shape and dtype account for exactly the bytes that are there.
"""

from collections.abc import Callable
from typing import Any, NoReturn, cast

import numpy as np

from selfie_data.sources.readers.pickle_machine import Machine

_DTYPE_KINDS = "biufS"


class Name:
    """A global a pickle may mention. It is not the thing itself: only REDUCE knows what to do with it."""

    def __init__(self, call: Callable[[Machine, tuple[Any, ...]], Any]) -> None:
        self.call = call


def find(machine: Machine, module: str, name: str) -> None:
    """Puts a name on the stack, if it is one of `NAMES`."""
    found = NAMES.get((module.replace("numpy._core", "numpy.core"), name))
    if found is None:
        machine.refuse(f"it asks for {module[:60]!r} {name[:60]!r}; only plain data and numpy arrays are read")
    machine.push(found)


def reduce(machine: Machine) -> None:
    """Calls a name with a tuple of arguments, both taken from the stack."""
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Name) or type(arguments) is not tuple:
        machine.refuse("it calls something that is not a function of numpy's arrays")
    machine.push(function.call(machine, arguments))


def build(machine: Machine) -> None:
    """Sets the state of the array or dtype on top of the stack."""
    state, target = machine.pop(), machine.stack[-1]
    if type(state) is tuple and type(target) is np.ndarray:
        _set_array(machine, target, state)
    elif type(state) is tuple and isinstance(target, np.dtype):
        _set_dtype(machine, target, state)
    else:
        machine.refuse("it sets the state of something that is no numpy array")


def _encode(machine: Machine, arguments: tuple[Any, ...]) -> bytes:
    """`_codecs.encode` for latin-1 only: how Python 3 writes bytes at protocol 2."""
    value, encoding = arguments if len(arguments) == 2 else (None, None)
    if type(value) is not str or encoding not in ("latin1", "latin-1", b"latin1", b"latin-1"):
        machine.refuse("it encodes text in another way than latin-1")
    machine.spend(len(value))
    return value.encode("latin-1")


def _empty_array(machine: Machine, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    if len(arguments) != 3 or arguments[0] is not NAMES["numpy", "ndarray"] or arguments[1] != (0,):
        machine.refuse("it builds an array in an unusual way")
    return np.empty(0, dtype=np.uint8)


def _dtype(machine: Machine, arguments: tuple[Any, ...]) -> np.dtype[Any]:
    """A private dtype, as the state that follows changes it in place."""
    code = machine.text(arguments[0]) if arguments else ""
    if not code[:1].isalpha() or code[0] not in _DTYPE_KINDS or not code[1:].isdigit() or len(code) > 6:
        machine.refuse(f"it holds an array of dtype {code[:20]!r}; only numbers are read")
    return np.dtype(code, copy=True)


def _set_dtype(machine: Machine, target: np.dtype[Any], state: tuple[Any, ...]) -> None:
    order = machine.text(state[1]) if len(state) >= 8 else ""
    if state[:1] not in ((3,), (4,)) or order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
        machine.refuse("it holds an array of an unusual dtype")
    if order in "<>" and target.kind in "iuf":
        cast(Any, target).__setstate__((3, order, None, None, None, -1, -1, 0))


def _set_array(machine: Machine, target: np.ndarray[Any, Any], state: tuple[Any, ...]) -> None:
    if len(state) != 5 or state[0] != 1:
        raise ValueError("an array has an unknown state")
    _, shape, dtype, fortran, data = state
    if type(data) is not bytes:
        machine.refuse("it holds an array of objects")
    if target.size:
        raise ValueError("an array is filled twice")
    _check_extent(machine, shape, dtype, len(data))
    if not dtype.isnative:
        machine.spend(len(data))
    state = (1, shape, dtype, bool(fortran), data)
    cast(Any, target).__setstate__(state)  # keeps `data`, without a copy when it is aligned


def _from_buffer(machine: Machine, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """`_frombuffer`: how numpy writes arrays at protocol 5."""
    if len(arguments) != 4 or not isinstance(arguments[0], bytes) or arguments[3] not in ("C", "F"):
        machine.refuse("it builds an array in an unusual way")
    data, dtype, shape, order = arguments
    _check_extent(machine, shape, dtype, len(data))
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="C" if order == "C" else "F")


def _scalar(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or type(arguments[1]) is not bytes:
        machine.refuse("it builds a number in an unusual way")
    _check_extent(machine, (), arguments[0], len(arguments[1]))
    return np.frombuffer(arguments[1], dtype=arguments[0])[0]


def _check_extent(machine: Machine, shape: Any, dtype: Any, available: int) -> None:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or dtype.itemsize == 0:
        machine.refuse("it holds an array of an unusual dtype")
    if type(shape) is not tuple or len(shape) > 4 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("an array has no valid shape")
    wanted = dtype.itemsize
    for side in shape:
        wanted *= side
    if wanted != available:
        raise ValueError(f"an array of shape {shape} needs {wanted} bytes and has {available}")


def _empty_bytes(machine: Machine, arguments: tuple[Any, ...]) -> bytes:
    """`bytes()`: how Python 3 writes b"" before protocol 3. With a number it would allocate."""
    if arguments:
        machine.refuse("it builds bytes in an unusual way")
    return b""


def _never(machine: Machine, _arguments: tuple[Any, ...]) -> NoReturn:
    machine.refuse("it builds an array in an unusual way")


NAMES = {
    ("_codecs", "encode"): Name(_encode),
    ("__builtin__", "bytes"): Name(_empty_bytes),
    ("numpy", "ndarray"): Name(_never),
    ("numpy", "dtype"): Name(_dtype),
    ("numpy.core.multiarray", "_reconstruct"): Name(_empty_array),
    ("numpy.core.multiarray", "scalar"): Name(_scalar),
    ("numpy.core.numeric", "_frombuffer"): Name(_from_buffer),
}
