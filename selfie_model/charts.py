"""Charts as SVG text: curves over steps, and means with their spread over seeds. Drawn by matplotlib, which is
imported by the functions that draw.

Nothing is told by colour alone: every line has a pattern of its own, every arm a mark. The same numbers give the same
bytes. Colours are CSS variables with fallbacks: a chart follows the light or dark theme of the page it stands in, and
is light as a file of its own.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400  # of a curve: more than this is not seen at the chart's width

# Okabe and Ito's palette in an order that stays apart for the colour-blind; the page has lighter ones for dark themes.
_SERIES = ("#0067a8", "#c04f00", "#007a5a", "#93467a")
_INK, _RULE, _BACK = "#5b6675", "#d9dee6", "#ffffff"
_VARIABLES = {_INK: "soft", _RULE: "rule", _BACK: "back"} | {tint: f"series-{at}" for at, tint in enumerate(_SERIES)}
_PATTERNS = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 2)))
_MARKS = ("o", "s", "^", "D")
_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "selfie",  # identifiers inside the file are drawn with it: else no two files were the same
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same widths on every machine
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.labelcolor": _INK,
    "legend.frameon": False,
    "grid.color": _RULE,
    "figure.facecolor": _BACK,
    "axes.facecolor": "none",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line over steps.

    Attributes:
        name: in the legend.
        x, y: equally many finite numbers, x rising.
        style: 0..3, index of its colour and pattern.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The results of one arm in one column: every seed as a dot, mean and standard deviation as a bar.

    Attributes:
        column: index of the category on the x axis.
        arm: index into the arms; also the colour.
        values: one number a seed, at least one.
        deviation: half length of the bar; None draws no bar (one seed has no spread).
        published: the number to compare with; None if there is none.
    """

    column: int
    arm: int
    values: Sequence[float]
    deviation: float | None
    published: float | None = None


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
    """Returns an SVG element with one line a curve.

    Args:
        curves: at least one, each with at least one point.
        title: what is shown, for screen readers and as a tooltip.
        description: what is to be seen, for screen readers.
        x_label: name and unit of the x axis.
        y_label: name and unit of the y axis.
        percent: y is a share in 0..1, shown in per cent.
        reference: name and height of a dotted horizontal line (chance).

    Raises:
        ValueError: if there is nothing to draw.
    """
    drawn = [thin(curve) for curve in curves if len(curve.x)]
    if not drawn:
        raise ValueError("a chart needs at least one curve with a point, got none")

    def draw(axes: "Axes") -> None:
        for curve in drawn:
            mark = "o" if len(curve.x) == 1 else ""
            pattern: Any = _PATTERNS[curve.style]
            colour = _SERIES[curve.style]
            axes.plot(curve.x, curve.y, color=colour, linestyle=pattern, marker=mark, label=curve.name, clip_on=False)
        if reference:
            axes.axhline(reference[1], color=_INK, linestyle=":", label=reference[0], clip_on=False)
        axes.set_xlim(0.0, max(curve.x[-1] for curve in drawn) or 1.0)
        axes.xaxis.set_major_formatter("{x:,.0f}")

    return _svg(draw, title=title, description=description, labels=(x_label, y_label), percent=percent)


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

    def draw(axes: "Axes") -> None:
        named: set[str] = set()
        for spread in spreads:
            place = spread.column + (spread.arm - (len(arms) - 1) / 2) * 0.3
            colour, mark = _SERIES[spread.arm], _MARKS[spread.arm]
            seeds = [place - 0.05] * len(spread.values)
            axes.plot(seeds, spread.values, mark, color=colour, alpha=0.45, markersize=3, clip_on=False)
            label = "" if arms[spread.arm] in named else arms[spread.arm]
            mean = float(np.mean(spread.values))
            axes.errorbar(
                place, mean, yerr=spread.deviation, fmt=mark, color=colour, capsize=3, label=label, clip_on=False
            )
            named.add(arms[spread.arm])
            if spread.published is not None:
                label = "" if "the paper" in named else "the paper"
                hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour}
                axes.plot(place + 0.08, spread.published, mark, label=label, clip_on=False, **hollow)
                named.add("the paper")
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_xticks(range(len(columns)), list(columns))

    return _svg(draw, title=title, description=description, labels=(x_label, y_label), percent=True)


def thin(curve: Curve, *, limit: int = MAX_POINTS) -> Curve:
    """Returns the curve with at most `limit` points, each the mean of its neighbours; short curves unchanged."""
    if len(curve.x) <= limit:
        return curve
    x, y = (
        [float(part.mean()) for part in np.array_split(np.asarray(values, dtype=np.float64), limit)]
        for values in (curve.x, curve.y)
    )
    return replace(curve, x=x, y=y)


def _svg(
    draw: Callable[["Axes"], None], *, title: str, description: str, labels: tuple[str, str], percent: bool
) -> str:
    """Returns the SVG element of one chart with grid and legend, without the XML declaration and the metadata."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what the user's own matplotlibrc says
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.grid(axis="y", clip_on=False)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _element(figure, title=title, description=description)


def _element(figure: "Figure", *, title: str, description: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = text.getvalue()
    # In the place of matplotlib's style, which would hold for all of a page: what is shown, for screen readers.
    head = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    style = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
    body = style.sub(lambda _: head, drawing[drawing.index("<svg") :], count=1)
    body = body.replace(">", ' role="img" stroke-linejoin="round">', 1)
    for colour, name in _VARIABLES.items():
        body = body.replace(colour, f"var(--{name},{colour})")
    return body
