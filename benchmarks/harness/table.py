"""Records as text tables."""

from collections.abc import Iterable, Sequence

from benchmarks.harness.record import Record


def layout(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Columns padded to their widest cell: the first left-aligned, the others right-aligned."""
    table = [list(header), *(list(line) for line in lines)]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    rows = []
    for line in table:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        rows.append("  ".join([line[0].ljust(widths[0]), *cells[1:]]).rstrip())
    rows.insert(1, "-" * max(len(row) for row in rows))
    return "\n".join(rows)


def number(value: float) -> str:
    """Four significant digits, thousands separated: 1,234 or 0.1234."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def summary(records: Sequence[Record]) -> str:
    """One table a case: every system with median, interval, and what was skipped, with the reason."""
    parts = []
    for case in dict.fromkeys(one.case for one in records):
        chosen = [one for one in records if one.case == case]
        done = sorted((one for one in chosen if one.n), key=lambda one: (one.unit, -one.median))
        lines = [
            [one.system, number(one.median), f"{number(one.low)} - {number(one.high)}", str(one.n), one.unit, one.note]
            for one in done
        ]
        text = f"{case}\n{layout(('system', 'median', '95 % interval', 'n', 'unit', 'note'), lines)}" if lines else case
        text += "".join(f"\n{_absent(one)}" for one in chosen if not one.n)
        parts.append(text)
    return "\n\n".join(parts)


def _absent(one: Record) -> str:
    return f"check: {one.note}" if one.system == "check" else f"skipped {one.system}: {one.note}"
