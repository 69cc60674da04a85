"""Compiled reading: one positioned read of a sample's bytes, and their CRC32C.

`pread` of the C library is called from compiled code that holds no lock of the interpreter, so threads read side by
side; a short read is seen by its return value, never as a signal (a memory map of a shard that is cut short kills the
process). `reader.ShardReader` is the plain twin.

CRC32C (Castagnoli, RFC 3720 appendix B.4) uses the processor's own instruction where it has one.
"""

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

OK, SHORT, FAILED, DAMAGED = 0, 1, 2, 3  # what became of a sample

_POLYNOMIAL = 0x82F63B78  # reversed
_pread = types.ExternalFunction("pread", types.intp(types.int32, types.uintp, types.uintp, types.int64))


def _table() -> Any:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _table()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def crc32c_by_table(data: Any) -> Any:
    """Returns the CRC32C of uint8 [n], a byte at a time: the twin of the instruction, and used where it lacks."""
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = np.uint32(_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> np.uint32(8)))
    return crc ^ np.uint32(0xFFFFFFFF)


@intrinsic  # type: ignore[untyped-decorator]
def _crc_word(typingctx: Any, crc: Any, word: Any) -> Any:  # noqa: ARG001 - the signature is Numba's
    """SSE 4.2's crc32 of eight bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        i64 = ir.IntType(64)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(i64, [i64, i64]), "llvm.x86.sse42.crc32.64.64"
        )
        return builder.call(function, args)

    return types.uint64(types.uint64, types.uint64), codegen


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def crc32c_by_instruction(data: Any) -> Any:
    """Returns the CRC32C of uint8 [n], contiguous, eight bytes at a time."""
    crc = np.uint64(0xFFFFFFFF)
    whole = len(data) // 8
    for word in data[: 8 * whole].view(np.uint64):
        crc = _crc_word(crc, word)
    rest = np.uint32(crc)
    for byte in data[8 * whole :]:
        rest = np.uint32(_TABLE[(rest ^ byte) & 0xFF] ^ (rest >> np.uint32(8)))
    return rest ^ np.uint32(0xFFFFFFFF)


HAS_INSTRUCTION = bool(llvmlite.binding.get_host_cpu_features().get("sse4.2", False))
crc32c = crc32c_by_instruction if HAS_INSTRUCTION else crc32c_by_table


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def read_payload(descriptor: int, offset: int, buffer: Any, check: bool, expected: Any) -> Any:
    """Fills `buffer`, uint8 [n], from a file and says what became of it: OK, SHORT, FAILED or DAMAGED.

    Args:
        descriptor: an open file.
        offset: first byte.
        buffer: contiguous; all of it is wanted.
        check: whether the CRC32C is to be compared with `expected`.
    """
    done = 0
    while done < len(buffer):  # a signal or a network file system may cut a read short
        count = _pread(descriptor, buffer.ctypes.data + done, len(buffer) - done, offset + done)
        if count < 0:
            return FAILED
        if count == 0:
            return SHORT
        done += count
    if check and crc32c(buffer) != expected:
        return DAMAGED
    return OK
