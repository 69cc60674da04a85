"""The compiled part of `jpeg_restarts`: entropy-coded data walked, and written with restart markers.

Sections of ITU-T T.81: B.1.1.5 and F.1.2.3 (stuffed bytes), F.1.1.5.2 (restart intervals), F.1.2.1 and F.1.2.2 (coding
of DC and AC coefficients), F.2.2 (their decoding). Of AC codes only the lengths matter: their bits are copied.

Nothing is read or written out of bounds whatever the bits are: a block is walked unchecked, but has 64 codes of 31 bits
at most, for which there is room after the data.

What is done for each block or byte is inlined, a quarter faster: a call counts the references of each array.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from selfie_data.kernels.compile import inlined, kernel

_BITS = 10  # looked up at once: 4 KB a table; nine and twelve are slower
_CATEGORIES = 12  # of DC differences
_LARGEST_AC = 10  # category of an AC coefficient of 8-bit samples (table F.2)
SLACK = 512  # zero bytes after the bits
_BLOCK_ENDS, _NO_CODE = 128, 255  # in place of the number of coefficients that a code stands for
_DAMAGED = -1
_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


@intrinsic  # type: ignore[untyped-decorator]
def _load(_: Any, array: Any, index: Any) -> Any:
    """Eight bytes from array[index] on, the first the lowest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(context.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, index), emit


@intrinsic  # type: ignore[untyped-decorator]
def _store(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Writes eight bytes to array[index] on, the lowest first."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(context.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, index, value), emit


@intrinsic  # type: ignore[untyped-decorator]
def _swapped(_: Any, value: Any) -> Any:
    """The bytes of a uint64 in the opposite order."""
    return types.uint64(value), lambda _context, builder, _signature, arguments: builder.bswap(arguments[0])


@intrinsic  # type: ignore[untyped-decorator]
def _leading_zeros(_: Any, value: Any) -> Any:
    """Zero bits above the highest one of a uint64; 64 of 0."""
    return types.int64(value), lambda _c, builder, _s, arguments: builder.ctlz(arguments[0], ir.IntType(1)(0))


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_: Any, value: Any) -> Any:
    """Zero bits below the lowest one of a uint64 that is not 0."""
    return types.int64(value), lambda _c, builder, _s, arguments: builder.cttz(arguments[0], ir.IntType(1)(1))


@kernel
def unstuff(data: Any, start: int, bits: Any) -> Any:
    """Copies entropy-coded data from data[start] on without its stuffed zeros, and SLACK zeros after it.

    Returns:
        The bytes copied, and what follows the byte 0xFF that ends the data; 0 if none does.
    """
    place, size, marker = start, 0, 0
    while place + 1 < data.size:
        if place + 9 <= data.size:
            word = _load(data, place)
            _store(bits, size, word)
            full = (~word - _ONES) & word & _TOPS  # the lowest bit is that of the first byte 0xFF
            step = _trailing_zeros(full) >> 3 if full else 8
            place, size = place + step, size + step
            if step == 8:
                continue
        byte, following = data[place], data[place + 1]
        if byte == 0xFF and following != 0:  # fill bytes too: decoders disagree on 0xFF 0xFF 0x00
            marker = int(following)
            break
        bits[size] = byte
        size += 1
        place += 2 if byte == 0xFF else 1
    bits[size : size + SLACK] = 0
    return size, marker


@kernel
def _fill(table: Any, single: Any) -> Any:
    """Writes length << 8 | symbol of the code that _BITS bits begin with to single[bits], 0 where it is longer.

    Returns:
        Whether it is a table: no code is all ones (C.2).
    """
    single[:] = 0
    code, at = 0, 16
    for length in range(1, 17):
        for _ in range(table[length - 1]):
            if code + 1 >= 1 << length:
                return False
            if length <= _BITS:
                begin = code << (_BITS - length)
                single[begin : begin + (1 << (_BITS - length))] = length << 8 | table[at]
            code, at = code + 1, at + 1
        code <<= 1
    return True


@kernel
def _advance(symbol: int) -> Any:
    """Returns how many coefficients an AC symbol stands for, _BLOCK_ENDS for all that are left (F.1.2.2.1)."""
    run, category = symbol >> 4, symbol & 15
    return run + 1 if category or run == 15 else _BLOCK_ENDS


@kernel
def _fill_runs(single: Any, runs: Any) -> None:
    """Writes what as many whole AC codes as _BITS bits tell of have in common to runs[bits].

    Bits 0 to 5: their length with the values between and after them. 6 to 15: the coefficients that they stand for.
    16 to 21 and 22 on: the same of the first one alone. _NO_CODE coefficients: the first code is longer, or none.
    """
    for bits in range(1 << _BITS):
        length, count, first = np.int64(0), np.int64(0), _NO_CODE << 6
        while length < _BITS and count < 64:
            entry = np.int64(single[(bits << length) & ((1 << _BITS) - 1)])
            symbol = entry & 255
            if entry == 0 or length + (entry >> 8) > _BITS or symbol & 15 > _LARGEST_AC:
                break
            length += (entry >> 8) + (symbol & 15)
            count += _advance(symbol)
            if first == _NO_CODE << 6:
                first = (length | count << 6) << 16
        runs[bits] = first | length | count << 6


@kernel
def _search(tables: Any, table: int, word: Any) -> Any:
    """Returns length << 8 | symbol of the code that a word begins with, 0 if it is none (F.2.2.3)."""
    code, first, at = np.int64(0), np.int64(0), np.int64(16)
    for length in range(1, 17):
        code = code << 1 | np.int64(word >> np.uint64(64 - length)) & 1
        first <<= 1
        count = np.int64(tables[table, length - 1])
        if code - first < count:
            return length << 8 | tables[table, at + code - first]
        first, at = first + count, at + count
    return 0


@inlined
def _refill(bits: Any, word: Any, have: Any, place: Any) -> Any:
    """Returns word, have and place with 56 bits or more: `word` holds the next `have` bits from the highest down."""
    word |= _swapped(_load(bits, place)) >> have
    return word, have | np.uint64(56), place + ((np.uint64(63) - have) >> np.uint64(3))


@inlined
def _skip_ac(bits: Any, runs: Any, tables: Any, table: Any, word: Any, have: Any, place: Any) -> Any:
    """Returns word, have and place after a block's AC codes; `have` is 64 where they are damaged.

    Two look-ups follow a refill, each of 26 bits at most.
    """
    six, top, k = np.uint64(63), np.uint64(64 - _BITS), np.uint64(1)
    while True:
        word, have, place = _refill(bits, word, have, place)
        run = np.uint64(runs[table, word >> top])
        reached = k + (run >> np.uint64(6) & np.uint64(1023))
        if reached < np.uint64(64):
            word, have, k = word << (run & six), have - (run & six), reached
            run = np.uint64(runs[table, word >> top])
            reached = k + (run >> np.uint64(6) & np.uint64(1023))
            if reached < np.uint64(64):
                word, have, k = word << (run & six), have - (run & six), reached
                continue
        if reached == np.uint64(64) or np.uint64(_BLOCK_ENDS) < reached < np.uint64(_BLOCK_ENDS + 64):
            return word << (run & six), have - (run & six), place
        length, count = run >> np.uint64(16) & six, run >> np.uint64(22)
        if reached > np.uint64(_NO_CODE):
            entry = _search(tables, table, word)
            if entry == 0 or entry & 15 > _LARGEST_AC:
                return word, np.uint64(64), place
            length, count = np.uint64((entry >> 8) + (entry & 15)), np.uint64(_advance(entry & 255))
        word, have, k = word << length, have - length, k + count
        if k == np.uint64(64) or count == np.uint64(_BLOCK_ENDS):
            return word, have, place
        if k > np.uint64(64):
            return word, np.uint64(64), place


@kernel
def walk(bits: Any, size: int, blocks: Any, tables: Any, mcus: int, before: Any, after: Any, dc: Any) -> Any:
    """Finds the DC differences of a scan; the arguments are those of `_Walked`, `Scan.blocks` and eight Huffman tables.

    Returns:
        The bit after the last block, or _DAMAGED.
    """
    single, runs = np.zeros((8, 1 << _BITS), np.int32), np.full((8, 1 << _BITS), _NO_CODE << 6, np.uint32)
    for table in range(8):
        if tables[table, :16].any() and not _fill(tables[table], single[table]):
            return _DAMAGED
        if table >= 4 and tables[table, :16].any():
            _fill_runs(single[table], runs[table])
    last = np.zeros(4, np.int64)
    word, have, place, block = np.uint64(0), np.uint64(0), np.uint64(0), 0
    for _mcu in range(mcus):
        for j in range(len(blocks)):
            component, dc_table, ac_table = blocks[j, 0], np.uint64(blocks[j, 1]), np.uint64(blocks[j, 2] + 4)
            begin = np.int64(place) * 8 - np.int64(have)
            if begin > 8 * size:
                return _DAMAGED
            word, have, place = _refill(bits, word, have, place)
            entry = np.int64(single[dc_table, word >> np.uint64(64 - _BITS)])
            if entry == 0:
                entry = _search(tables, dc_table, word)
            length, category = entry >> 8, entry & 255
            if length == 0 or category >= _CATEGORIES:
                return _DAMAGED
            word <<= np.uint64(length)
            if category:
                value = np.int64(word >> np.uint64(64 - category))  # below half of the range: negative (F.2.2.1)
                last[component] += value if value >> (category - 1) else value - (1 << category) + 1
            before[block], after[block], dc[block] = begin, begin + length + category, last[component]
            block += 1
            have -= np.uint64(length + category)
            word, have, place = _skip_ac(bits, runs, tables, ac_table, word << np.uint64(category), have, place)
            if have == np.uint64(64):
                return _DAMAGED
    return np.int64(place) * 8 - np.int64(have)


@inlined
def _category(difference: int) -> Any:
    """Returns the bits of a difference's magnitude (table F.1), 15 at most."""
    return min(15, 64 - _leading_zeros(np.uint64(abs(difference))))


@kernel
def choose_tables(dc: Any, blocks: Any, interval: int, worth: int, tables: Any, codes: Any, replaced: Any) -> Any:
    """Chooses the DC tables of the differences that there will be.

    Args:
        dc: as in `walk`, and the next too.
        blocks: see there.
        interval: MCUs.
        worth: bits that another table must save, if it need not be.
        tables: [8, 272] uint8, as in `walk`; changed to the chosen ones.
        codes: [4, 12, 2] int64, becomes code and length of each category in each DC table.
        replaced: [4] bool, becomes whether a table was.

    Returns:
        Whether all differences are of 8-bit samples.
    """
    counts, last = np.zeros((4, 16), np.int64), np.zeros(4, np.int64)
    for mcu in range(len(dc) // len(blocks)):
        if mcu % interval == 0:
            last[:] = 0
        for j in range(len(blocks)):
            value = np.int64(dc[mcu * len(blocks) + j])
            counts[blocks[j, 1], _category(value - last[blocks[j, 0]])] += 1
            last[blocks[j, 0]] = value
    for table in range(4):
        _read_codes(tables[table], codes[table])
        best, saved = _best_lengths(counts[table]), 0
        for category in range(_CATEGORIES):
            length = codes[table, category, 1]
            saved += counts[table, category] * ((length if length else 1 << 32) - best[category])
        if saved > worth:
            replaced[table] = True
            _write_table(best, tables[table])
            _read_codes(tables[table], codes[table])
    return not counts[:, _CATEGORIES:].any()


@kernel
def _read_codes(table: Any, codes: Any) -> None:
    """Writes code and length of each category of DC differences to codes[category] (C.2), zeros if it has none."""
    codes[:] = 0
    code, at = 0, 16
    for length in range(1, 17):
        for _ in range(table[length - 1]):
            if table[at] < _CATEGORIES:
                codes[table[at], 0], codes[table[at], 1] = code, length
            code, at = code + 1, at + 1
        code <<= 1


@kernel
def _best_lengths(counts: Any) -> Any:
    """Returns [12] int64, the lengths of the codes that make counted categories shortest (K.2), 0 of the others.

    One more symbol is never used, so it has a longest code, and no other one need be all ones.
    """
    weights, parents, category_of = np.zeros(26, np.int64), np.zeros(26, np.int64), np.zeros(13, np.int64)
    leaves = 1
    for category in range(_CATEGORIES):
        if counts[category]:
            weights[leaves], category_of[leaves] = counts[category], category
            leaves += 1
    for node in range(leaves, 2 * leaves - 1):
        for _ in range(2):
            rarest = -1
            for one in range(node):
                if parents[one] == 0 and (rarest < 0 or weights[one] < weights[rarest]):
                    rarest = one
            parents[rarest] = node
            weights[node] += weights[rarest]
    lengths, depths = np.zeros(_CATEGORIES, np.int64), np.zeros(26, np.int64)
    for node in range(2 * leaves - 3, 0, -1):
        depths[node] = depths[parents[node]] + 1
        if node < leaves:
            lengths[category_of[node]] = depths[node]
    return lengths


@kernel
def _write_table(lengths: Any, table: Any) -> None:
    """Writes the Huffman table of these lengths: 16 counts, then the symbols."""
    table[:16] = 0
    at = 16
    for length in range(1, 17):
        for category in range(_CATEGORIES):
            if lengths[category] == length:
                table[length - 1] += 1
                table[at] = category
                at += 1


@inlined
def _put(word: Any, count: Any, out: Any, size: Any, pending: Any, have: Any) -> Any:
    """Appends the `count` highest bits of a word, 56 at most, the rest of it zeros, to out[size:], stuffed (F.1.2.3).

    Returns:
        size, pending and have: the last `have` bits, 7 at most, wait in `pending` for a whole byte.
    """
    pending |= word >> have
    have += count
    whole = np.int64(have >> np.uint64(3))
    if (~pending - _ONES) & pending & _TOPS:  # a byte is 0xFF
        for byte in range(whole):
            value = pending >> np.uint64(56 - 8 * byte) & np.uint64(255)
            out[size] = value
            size += 1
            if value == np.uint64(255):
                out[size] = 0
                size += 1
    else:
        _store(out, size, _swapped(pending))
        size += whole
    return size, pending << np.uint64(8 * whole), have & np.uint64(7)


@inlined
def _copy(bits: Any, begin: int, end: int, out: Any, size: Any, pending: Any, have: Any) -> Any:
    """Appends bits begin to end - 1; the rest as in `_put`."""
    while begin < end:
        rest = np.uint64(64 - min(56, end - begin))
        word = _swapped(_load(bits, begin >> 3)) << np.uint64(begin & 7) >> rest << rest
        size, pending, have = _put(word, np.uint64(64) - rest, out, size, pending, have)
        begin += 56
    return size, pending, have


@kernel
def write(
    bits: Any, end: int, before: Any, after: Any, dc: Any, blocks: Any, interval: int, codes: Any, replaced: Any,
    out: Any, size: int,
) -> Any:  # fmt: skip
    """Writes the entropy-coded data of a scan with a marker after each interval but the last.

    Args:
        bits: as in `walk`, and the next four too.
        end: see there.
        before: see there.
        after: see there.
        dc: see there.
        blocks: see there.
        interval: as in `choose_tables`, and the next two too.
        codes: see there.
        replaced: see there.
        out: uint8, large enough.
        size: bytes that are there before.

    Returns:
        The bytes there then, with the marker of the image's end.
    """
    pending, have = np.uint64(0), np.uint64(0)
    last, copied, verbatim = np.zeros(4, np.int64), before[0], not replaced.any()
    for mcu in range(len(dc) // len(blocks)):
        begins = mcu % interval == 0
        if verbatim and not begins:
            continue  # nothing but bits to be copied
        if begins:
            last[:] = 0
            if mcu:
                size, pending, have = _finish(bits, copied, before[mcu * len(blocks)], out, size, pending, have)
                copied = before[mcu * len(blocks)]
                out[size], out[size + 1] = 0xFF, 0xD0 + (mcu // interval - 1 & 7)
                size += 2
        for j in range(len(blocks)):
            block, component, table = mcu * len(blocks) + j, blocks[j, 0], blocks[j, 1]
            if replaced[table] or (begins and blocks[j, 3]):
                size, pending, have = _copy(bits, copied, before[block], out, size, pending, have)
                difference = dc[block] - last[component]
                category = _category(difference)
                length = codes[table, category, 1] + category
                rest = difference if difference >= 0 else difference + (1 << category) - 1  # F.1.2.1.1
                word = np.uint64(codes[table, category, 0] << category | rest) << np.uint64(64 - length)
                size, pending, have = _put(word, np.uint64(length), out, size, pending, have)
                copied = after[block]
            last[component] = dc[block]
    size, pending, have = _finish(bits, copied, end, out, size, pending, have)
    out[size], out[size + 1] = 0xFF, 0xD9
    return size + 2


@kernel
def _finish(bits: Any, begin: int, end: int, out: Any, size: Any, pending: Any, have: Any) -> Any:
    """As `_copy`, then ones up to a whole byte (F.1.2.3)."""
    size, pending, have = _copy(bits, begin, end, out, size, pending, have)
    missing = (np.uint64(8) - have) & np.uint64(7)
    ones = ~np.uint64(0) << (np.uint64(64) - missing) if missing else np.uint64(0)
    return _put(ones, missing, out, size, pending, have)
