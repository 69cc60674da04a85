"""Asking for memory before it is needed.

Images of a shuffled batch lie anywhere in memory, so that no processor guesses which comes next; the kernel knows.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from selfie_data.kernels.compiled import kernel

_BYTE, _FLAG = ir.IntType(8), ir.IntType(32)
_READ, _KEEP, _DATA = (ir.Constant(_FLAG, value) for value in (0, 3, 1))
_LINE = 64  # bytes that come together
_AT_MOST = 4096  # a page: beyond it the processor has seen the pattern


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_line(_: Any, source: Any, at: Any) -> Any:  # noqa: ARG001
    """Begins to fetch the line of memory of source[at]; uint8, flat. Never fails, wherever `at` points to."""
    signature = types.void(source, types.int64)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = _BYTE.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _FLAG, _FLAG, _FLAG])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        builder.call(function, [builder.gep(data, [arguments[1]]), _READ, _KEEP, _DATA])
        return context.get_dummy_value()

    return signature, emit


@kernel
def prefetch(source: Any, start: int, size: int) -> None:
    """Begins to fetch the first page of the `size` bytes at source[start]; uint8, flat."""
    for at in range(start, start + min(size, _AT_MOST), _LINE):
        prefetch_line(source, at)
