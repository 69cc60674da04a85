"""Charts: well formed, named, the same bytes every time, following the page's theme."""

import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from selfie_model.charts import Curve, Spread, curve_chart, spread_chart, thin


def draw_curves() -> str:
    curves = [Curve(name="a < b", x=[0, 1], y=[0.2, 0.4]), Curve(name="one point", x=[1], y=[0.3], style=1)]
    return curve_chart(
        curves,
        title="t",
        description="d",
        x_label="step",
        y_label="accuracy",
        percent=True,
        reference=("chance", 0.25),
    )


def test_thinning_keeps_ends_near_and_the_mean() -> None:
    long = Curve(name="loss", x=range(10_000), y=[float(step % 7) for step in range(10_000)])
    short = thin(long, limit=100)
    assert len(short.x) == len(short.y) == 100
    assert statistics.fmean(short.y) == pytest.approx(statistics.fmean(long.y), abs=0.01)
    assert thin(short, limit=100) is short


def test_curves_are_well_formed_and_named() -> None:
    svg = draw_curves()
    words = " ".join(ElementTree.fromstring(svg).itertext())
    assert "a < b" in words
    assert "one point" in words
    assert "chance" in words
    with pytest.raises(ValueError, match="at least one curve"):
        curve_chart([], title="t", description="d", x_label="x", y_label="y")


def test_the_same_numbers_give_the_same_bytes_whatever_the_users_settings() -> None:
    first = draw_curves()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        assert draw_curves() == first
    code = "from tests.selfie_model.test_charts import draw_curves; print(draw_curves(), end='')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == first


def test_a_chart_names_no_address_and_styles_nothing_but_itself() -> None:
    svg = draw_curves()
    tree = ElementTree.fromstring(svg)
    assert tree.get("role") == "img"
    assert [child.tag.partition("}")[2] for child in tree][:2] == ["title", "desc"]
    assert "url(" not in svg
    assert "<style" not in svg
    assert svg.count("http") == 2  # the names of SVG and XLink themselves
    assert "var(--series-0,#0067a8)" in svg


def test_every_arm_is_named_once_and_has_a_mark_of_its_own() -> None:
    spreads = [
        Spread(column=column, arm=arm, values=[0.5, 0.6], deviation=0.07, published=0.75)
        for column in (0, 1)
        for arm in (0, 1)
    ]
    labels = {"title": "t", "description": "d", "x_label": "x", "y_label": "y"}
    svg = spread_chart(spreads, columns=["5 %", "8 %"], arms=["supervised", "Selfie"], **labels)
    words = [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]
    for name in ("supervised", "Selfie", "the paper", "5 %", "8 %"):
        assert words.count(name) == 1, name
    with pytest.raises(ValueError, match="at least one result"):
        spread_chart([], columns=[], arms=[], **labels)
