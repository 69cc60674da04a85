"""Records as one SVG: a panel a case, a bar a system, the 95 % interval as a whisker. Drawn by matplotlib."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.harness.record import Record
from benchmarks.harness.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"selfie": "#c2410c", "floor": "#a8a29e", "peer": "#57718f"}
_FLOORS = ("cached", "decode", "dali-decode", "dali-resize")
_BAR, _TITLE, _WIDTH = 0.2, 0.42, 7.2  # inches: height of a bar and of a panel's title, width of the chart
_LEFT, _SPAN = 0.27, 0.6  # of the width: where bars begin, how long the longest is
_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "selfie",  # else no two drawings of the same numbers were the same file
    "svg.fonttype": "none",  # text stays text
    "font.size": 8,
}


def chart(records: Sequence[Record]) -> str:
    """One SVG document; ratios and skipped systems are left to the table."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = [one for one in records if one.n and one.unit != "ratio"]
    panels: dict[str, list[Record]] = {}
    for one in sorted(shown, key=lambda one: one.median):
        panels.setdefault(f"{one.case}, {one.unit}", []).append(one)
    titles = list(dict.fromkeys(f"{one.case}, {one.unit}" for one in shown))
    heights = [_BAR * len(panels[title]) + _TITLE for title in titles]
    total = sum(heights) or 1.0
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, total))
        top = total
        for title, height in zip(titles, heights, strict=True):
            top -= height
            axes = figure.add_axes((_LEFT, top / total, _SPAN, (height - _TITLE) / total))
            _panel(axes, title, panels[title])
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(axes: "Axes", title: str, panel: Sequence[Record]) -> None:
    """Bars on a scale of their own. A floor that would flatten the others is cut, with a gap near its end."""
    real = [one.high for one in panel if kind(one.system) != "floor"] or [one.high for one in panel]
    longest = 1.6 * max(*real, 1e-12)
    axes.set_title(title, fontweight="bold", loc="left", x=-_LEFT / _SPAN, fontsize=8)
    axes.set_xlim(0, longest)
    axes.set_ylim(-0.6, len(panel) - 0.4)
    axes.set_yticks(range(len(panel)), [one.system for one in panel])
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    for y, one in enumerate(panel):
        length = min(one.median, longest)
        axes.barh(y, length, height=0.7, color=_COLOURS[kind(one.system)])
        if one.median > longest:
            axes.plot([0.955 * longest, 0.965 * longest], [y - 0.4, y + 0.4], color="white", linewidth=3)
        else:
            axes.plot([one.low, min(one.high, longest)], [y, y], color="black", linewidth=0.8)
        end = max(length, min(one.high, longest))
        axes.text(end + 0.012 * longest, y, number(one.median), va="center", clip_on=False)


def kind(system: str) -> str:
    """`selfie`, `floor` or `peer`."""
    if system.startswith("selfie"):
        return "selfie"
    return "floor" if system in _FLOORS or system.startswith(("ceiling", "floor")) else "peer"
