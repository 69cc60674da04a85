"""Charts as SVG text: curves over steps, and means with their spread over seeds.

Made by hand because two chart forms do not carry a plotting library.
Nothing is told by colour alone: every line and mark is also named beside it.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfie_model.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    axes,
    colour,
    element,
    end_labels,
    nice_ticks,
    text,
)

MAX_POINTS = 400  # more than this is not seen at WIDTH pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line over steps.

    Attributes:
        name: written at its right end.
        x, y: equally many finite numbers, x rising.
        colour: 0..3, index into the palette.
        dashed: for a second kind of line (validation, noise).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The results of one arm in one column: every seed as a dot, mean and standard deviation as a bar.

    Attributes:
        column: index of the category on the x axis.
        arm: index into the arms; also the colour.
        values: one number a seed, at least one.
        deviation: half length of the bar; None draws no bar (one seed has no spread).
        published: the number to compare with, and its deviation; None if there is none.
    """

    column: int
    arm: int
    values: Sequence[float]
    deviation: float | None
    published: tuple[float, float | None] | None = None


def curve_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    percent: bool = False,
    reference: tuple[str, float] | None = None,
) -> str:
    """Returns an SVG element with one line a curve, each named at its end.

    Args:
        curves: at least one, each with at least one point.
        title: what is shown, for screen readers and as a tooltip.
        description: what is to be seen, for screen readers.
        x_label: name and unit of the x axis.
        y_label: name and unit of the y axis.
        percent: y is a share in 0..1, shown as per cent.
        reference: name and height of a dotted horizontal line (chance).

    Raises:
        ValueError: if there is nothing to draw.
    """
    drawn = [thin(curve) for curve in curves if len(curve.x)]
    if not drawn:
        raise ValueError("a chart needs at least one curve with a point, got none")
    ys = [value for curve in drawn for value in curve.y] + ([reference[1]] if reference else [])
    y_ticks = nice_ticks(min(ys), max(ys))
    x_high = max(curve.x[-1] for curve in drawn)
    x_ticks = [tick for tick in nice_ticks(0.0, x_high) if tick <= x_high * 1.001]
    frame = Frame(0.0, max(x_high, 1e-9), y_ticks[0], y_ticks[-1])
    parts = [axes(frame, x_ticks, y_ticks, x_label=x_label, y_label=y_label, percent=percent)]
    labels: list[tuple[float, str, str]] = []
    if reference:
        height = frame.y(reference[1])
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" '
            'stroke="var(--soft,#5b6675)" stroke-dasharray="1 4" stroke-width="1.5" stroke-linecap="round"/>'
        )
        labels.append((height, reference[0], "var(--soft,#5b6675)"))
    for curve in drawn:
        parts.append(_line(curve, frame))
        labels.append((frame.y(curve.y[-1]), curve.name, colour(curve.colour)))
    parts.append(end_labels(labels))
    return element("".join(parts), title=title, description=description)


def spread_chart(
    spreads: Sequence[Spread],
    *,
    columns: Sequence[str],
    arms: Sequence[str],
    title: str,
    description: str,
    x_label: str,
    y_label: str,
) -> str:
    """Returns an SVG element: for every column and arm the seeds as dots, mean ± deviation, the published value hollow.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if not spreads:
        raise ValueError("a chart needs at least one result, got none")
    ends = [value for spread in spreads for value in _extent(spread)]
    y_ticks = nice_ticks(min(ends), max(ends))
    frame = Frame(0.0, float(len(columns)), y_ticks[0], y_ticks[-1])
    parts = [axes(frame, [], y_ticks, x_label=x_label, y_label=y_label, percent=True)]
    for index, name in enumerate(columns):
        parts.append(text(frame.x(index + 0.5), HEIGHT - BOTTOM + 16, name, anchor="middle"))
    parts.extend(_spread_marks(spread, frame, arms=len(arms)) for spread in spreads)
    labels = [(TOP + 12 + 18.0 * index, name, colour(index)) for index, name in enumerate(arms)]
    if any(spread.published for spread in spreads):
        labels.append((TOP + 12 + 18.0 * len(arms), "○ the paper", "var(--soft,#5b6675)"))
    parts.append(end_labels(labels))
    return element("".join(parts), title=title, description=description)


def thin(curve: Curve, *, limit: int = MAX_POINTS) -> Curve:
    """Returns the curve with at most `limit` points, each the mean of its neighbours; short curves unchanged."""
    count = len(curve.x)
    if count <= limit:
        return curve
    edges = [round(index * count / limit) for index in range(limit + 1)]
    spans = list(itertools.pairwise(edges))
    return Curve(
        name=curve.name,
        x=[_mean(curve.x[low:high]) for low, high in spans],
        y=[_mean(curve.y[low:high]) for low, high in spans],
        colour=curve.colour,
        dashed=curve.dashed,
    )


def _line(curve: Curve, frame: Frame) -> str:
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True))
    dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
    if len(curve.x) == 1:
        x, y = frame.x(curve.x[0]), frame.y(curve.y[0])
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour(curve.colour)}"/>'
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour(curve.colour)}" stroke-width="1.8" '
        f'stroke-linejoin="round"{dash}/>'
    )


def _spread_marks(spread: Spread, frame: Frame, *, arms: int) -> str:
    slot = 0.5 + (spread.arm - (arms - 1) / 2) * 0.3
    centre = frame.x(spread.column + slot)
    tint = colour(spread.arm)
    parts = [
        f'<circle cx="{centre - 7:.1f}" cy="{frame.y(value):.1f}" r="2.2" fill="{tint}" fill-opacity="0.45"/>'
        for value in spread.values
    ]
    mean = _mean(spread.values)
    if spread.deviation is not None:
        low, high = frame.y(mean - spread.deviation), frame.y(mean + spread.deviation)
        parts.append(
            f'<path d="M{centre:.1f} {low:.1f}V{high:.1f}M{centre - 4:.1f} {low:.1f}h8M{centre - 4:.1f} {high:.1f}h8" '
            f'stroke="{tint}" stroke-width="1.8" fill="none"/>'
        )
    parts.append(f'<circle cx="{centre:.1f}" cy="{frame.y(mean):.1f}" r="4" fill="{tint}"/>')
    if spread.published:
        parts.append(
            f'<circle cx="{centre + 11:.1f}" cy="{frame.y(spread.published[0]):.1f}" r="3.6" fill="none" '
            f'stroke="{tint}" stroke-width="1.5"/>'
        )
    return "".join(parts)


def _extent(spread: Spread) -> Iterable[float]:
    yield from spread.values
    if spread.deviation is not None:
        yield from (_mean(spread.values) - spread.deviation, _mean(spread.values) + spread.deviation)
    if spread.published:
        yield spread.published[0]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
