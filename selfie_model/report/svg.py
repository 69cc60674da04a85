"""The parts of a chart as SVG text: frame, axes, names, theme.

Colours are CSS variables with fallbacks, so that the same chart follows the light or dark theme of the page it stands
in, and is a picture of its own as a file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 640
HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 56, 128, 14, 44

# Okabe and Ito's palette in an order that stays apart for the colour-blind, darkened or lightened per theme in STYLE.
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--rule:#d9dee6;--back:#fff;
--series-0:#0067a8;--series-1:#c04f00;--series-2:#007a5a;--series-3:#93467a}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebf1;--soft:#a0abba;--rule:#353e4b;--back:#12161c;
--series-0:#5bb3ee;--series-1:#f29a4b;--series-2:#3fcf9f;--series-3:#d99ac4}}
"""
_COLOURS = 4
_LOWEST = HEIGHT - BOTTOM - 4.0  # of a name at the right edge: below stand the ticks


@dataclass(frozen=True, slots=True)
class Frame:
    """Maps data to pixels inside the margins."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def standalone(svg: str) -> str:
    """Returns the chart as a file of its own: with the name space, the theme and a background."""
    opening = '<svg xmlns="http://www.w3.org/2000/svg"'
    body = svg.replace("<svg", opening, 1)
    head, rest = body.split(">", 1)
    return f'{head}><style>{STYLE}</style><rect width="100%" height="100%" fill="var(--back,#fff)"/>{rest}\n'


def nice_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Returns rising multiples of 1, 2 or 5 times a power of ten whose first is <= low and last >= high."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"ticks need finite ends, got {low} and {high}")
    if high - low < 1e-12 * max(abs(low), abs(high), 1.0):
        half = 0.5 * max(abs(low), abs(high))
        half = half if half > 1e-12 else 0.5  # half of the smallest numbers is nothing
        low, high = low - half, high + half
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def colour(index: int) -> str:
    """Returns the CSS colour of a series."""
    return f"var(--series-{index % _COLOURS},#0067a8)"


def axes(
    frame: Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], *, x_label: str, y_label: str, percent: bool
) -> str:
    parts = []
    digits = _digits(y_ticks, percent=percent)
    for tick in y_ticks:
        height = frame.y(tick)
        shown = f"{100 * tick:.{digits}f} %" if percent else f"{tick:.{digits}f}"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="var(--rule,#d9dee6)"/>'
        )
        parts.append(text(LEFT - 8, height + 4, shown, anchor="end"))
    for tick in x_ticks:
        parts.append(text(frame.x(tick), HEIGHT - BOTTOM + 16, f"{tick:,.0f}", anchor="middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(text(13, middle, y_label, anchor="middle", extra=f' transform="rotate(-90 13 {middle:.0f})"'))
    return "".join(parts)


def end_labels(labels: Sequence[tuple[float, str, str]]) -> str:
    """Names at the right edge, moved apart where they would touch."""
    gap = 15.0
    placed: list[tuple[float, str, str]] = []
    for height, name, tint in sorted(labels):
        placed.append((max(height, placed[-1][0] + gap) if placed else height, name, tint))
    overflow = placed[-1][0] - _LOWEST if placed else 0.0
    limit = _LOWEST
    if overflow > 0:
        for index in reversed(range(len(placed))):
            height, name, tint = placed[index]
            placed[index] = (min(height, limit), name, tint)
            limit = placed[index][0] - gap
    return "".join(
        text(WIDTH - RIGHT + 8, height + 4, name, anchor="start", fill=tint, extra=' font-weight="600"')
        for height, name, tint in placed
    )


def text(x: float, y: float, content: str, *, anchor: str, fill: str = "var(--soft,#5b6675)", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{extra}>{escape(content)}</text>'


def element(body: str, *, title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="12"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg>"
    )


def _digits(ticks: Sequence[float], *, percent: bool) -> int:
    step = abs(ticks[1] - ticks[0]) * (100 if percent else 1)
    return max(0, -math.floor(math.log10(step) + 1e-9))
