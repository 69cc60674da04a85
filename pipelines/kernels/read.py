"""Reads and checks payloads of many samples in one compiled call, without the interpreter's lock.

Every payload is one `pread` into its place of a batch buffer (no memory map, see `reader.py`), then its CRC32C where
wanted: by the SSE 4.2 instruction where the processor has it (8 bytes in 3 cycles), by a table elsewhere.
"""

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from selfie_data.kernels.compile import kernel

READ_ALL = -1  # what `read_payloads` returns when nothing is wrong

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_pread = types.ExternalFunction("pread", types.intp(types.int32, types.voidptr, types.uintp, types.int64))


@intrinsic  # type: ignore[untyped-decorator]
def _address(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
    """A pointer to array[index]; uint8, flat."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.voidptr(array, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def _eight_bytes(_: Any, state: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
    """The CRC32C state after the eight bytes from array[index] on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        state, array, index = arguments
        word = ir.IntType(64)
        place = builder.gep(context.make_array(signature.args[1])(context, builder, array).data, [index])
        value = builder.load(builder.bitcast(place, word.as_pointer()), align=1)
        step = builder.module.declare_intrinsic("llvm.x86.sse42.crc32.64.64", (), ir.FunctionType(word, [word, word]))
        return builder.call(step, [state, value])

    return types.uint64(types.uint64, array, types.int64), emit


def _table() -> Any:
    entries = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        entries = np.where(entries & 1, (entries >> 1) ^ np.uint32(_POLYNOMIAL), entries >> 1).astype(np.uint32)
    return entries


_TABLE = _table()


@kernel
def _bytewise(state: Any, data: Any, start: int, stop: int) -> Any:
    for place in range(start, stop):
        state = _TABLE[(state ^ data[place]) & np.uint32(255)] ^ (state >> np.uint32(8))
    return np.uint32(state)


@kernel
def crc32c_portable(data: Any, start: int, length: int) -> Any:
    """Returns the CRC32C of data[start : start + length] (uint8, flat), a byte at a time."""
    return _bytewise(np.uint32(0xFFFFFFFF), data, start, start + length) ^ np.uint32(0xFFFFFFFF)


@kernel
def crc32c_sse(data: Any, start: int, length: int) -> Any:
    """Returns the same, eight bytes at a time."""
    state = np.uint64(0xFFFFFFFF)
    whole = start + length // 8 * 8
    for place in range(start, whole, 8):
        state = _eight_bytes(state, data, place)
    return _bytewise(np.uint32(state), data, whole, start + length) ^ np.uint32(0xFFFFFFFF)


def has_crc_instruction() -> bool:
    """Says whether this processor has the CRC32C instruction of SSE 4.2."""
    return bool(llvm.get_host_cpu_features().get("sse4.2"))


crc32c = crc32c_sse if has_crc_instruction() else crc32c_portable


@kernel
def read_payloads(
    shard: Any, offset: Any, length: Any, checksum: Any, descriptors: Any, check: Any, buffer: Any, starts: Any
) -> int:
    """Reads the payloads of b samples into `buffer`, payload i from byte starts[i] on.

    Args:
        shard: [b], the column of the samples' rows, as `offset`, `length` and `checksum` (crc32c).
        offset: see above.
        length: see above.
        checksum: see above.
        descriptors: [shards] int32, open for reading.
        check: [b] bool, whose checksums are compared.
        buffer: uint8, flat.
        starts: [b] int64.

    Returns:
        READ_ALL, or the place of a sample that could not be read whole or is not what was written.
    """
    for i in range(shard.size):
        wanted = length[i]
        place = starts[i]
        got = _pread(descriptors[shard[i]], _address(buffer, place), wanted, offset[i])
        if got != wanted:
            return i
        if check[i] and crc32c(buffer, place, wanted) != checksum[i]:
            return i
    return READ_ALL
