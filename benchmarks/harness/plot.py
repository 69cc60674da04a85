"""Records as one SVG: a panel a case, a bar a system, the 95 % interval as a whisker. Needs nothing but the records."""

from collections.abc import Sequence
from html import escape

from benchmarks.harness.record import Record
from benchmarks.harness.table import number

_BAR = 16  # px, pitch of the bars
_LEFT, _WIDTH, _RIGHT = 190, 420, 90
_STYLE = "font-family:sans-serif;font-size:11px"
_COLOURS = {"selfie": "#c2410c", "floor": "#a8a29e", "peer": "#57718f"}
_BREAK = (
    f'<path d="M{_LEFT + _WIDTH - 24} {{y}}l4 13m4 0l-4 -13" stroke="white" stroke-width="2"/>'  # of a bar cut short
)
_FLOORS = ("cached", "decode", "dali-decode", "dali-resize")


def chart(records: Sequence[Record]) -> str:
    """One SVG document; ratios and skipped systems are left to the table."""
    shown = [one for one in records if one.n and one.unit != "ratio"]
    cases = list(dict.fromkeys((one.case, one.unit) for one in shown))
    parts: list[str] = []
    top = 8
    for case, unit in cases:
        panel = sorted((one for one in shown if (one.case, one.unit) == (case, unit)), key=lambda one: -one.median)
        parts.append(_panel(f"{case}, {unit}", panel, top))
        top += _BAR * (len(panel) + 2)
    width = _LEFT + _WIDTH + _RIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" style="{_STYLE}">'
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="white"/>', *parts, "</svg>\n"])


def _panel(title: str, panel: Sequence[Record], top: int) -> str:
    """Bars on a scale of their own. A floor that would flatten the others is cut, with a gap near its end."""
    real = [one.high for one in panel if kind(one.system) != "floor"] or [one.high for one in panel]
    scale = _WIDTH / (1.6 * max(*real, 1e-12))
    lines = [f'<text x="4" y="{top + 11}" font-weight="bold">{escape(title)}</text>']
    for index, one in enumerate(panel):
        y = top + _BAR * (index + 1)
        colour = _COLOURS[kind(one.system)]
        length = min(one.median * scale, _WIDTH)
        low, high = _LEFT + min(one.low * scale, _WIDTH), _LEFT + min(one.high * scale, _WIDTH)
        lines += [
            f'<text x="{_LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(one.system)}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_BAR - 5}" fill="{colour}"/>',
            _BREAK.format(y=y + 1)
            if one.median * scale > _WIDTH
            else f'<path d="M{low:.1f} {y + 7.5}H{high:.1f}" stroke="black"/>',
            f'<text x="{_LEFT + max(length, high - _LEFT) + 5:.1f}" y="{y + 11}">{number(one.median)}</text>',
        ]
    return "\n".join(lines)


def kind(system: str) -> str:
    """`selfie`, `floor` or `peer`."""
    if system.startswith("selfie"):
        return "selfie"
    return "floor" if system in _FLOORS or system.startswith(("ceiling", "floor")) else "peer"
