"""The frontier as a chart: one specification, whose data are exchanged from setup to setup."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from diffaccel.page.data import Point, SetupView

VEGA_LITE = "v6.1"
"""Of the versions that vl-convert carries, the one that this altair writes."""
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
RIVAL_SHAPE = "triangle-right"
TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16]
CEILING = 5.0
"""Losses above so many limits are drawn at the upper edge, with a number."""
APART = 0.08
"""Share of a phone's width that such a number takes."""


@dataclass(frozen=True)
class Ink:
    """Colours; in the page they are CSS variables, so that one chart does for light and dark."""

    series: Sequence[str]
    rival: str
    text: str
    grid: str
    limit: str
    paper: str


PAGE = Ink(
    [f"var(--series-{n})" for n in range(6)],
    "var(--rival)",
    "var(--ink)",
    "var(--grid)",
    "var(--limit)",
    "var(--paper)",
)
# Okabe and Ito, "Color Universal Design", 2008, without its yellow.
PAPER = Ink(
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b87800", "#3a93c4"],
    "#5f6368",
    "#1d232b",
    "#e3e6ea",
    "#b3261e",
    "#ffffff",
)


def styles(names: Sequence[str], rivals: Sequence[str], ink: Ink) -> list[tuple[str, str, str]]:
    """Name, colour and shape of each series, the rivals' last."""
    own = [name for name in names if name not in rivals]
    found = [
        (name, ink.series[n % len(ink.series)], SHAPES[(n + n // len(SHAPES)) % len(SHAPES)])
        for n, name in enumerate(own)
    ]
    return [*found, *((name, ink.rival, RIVAL_SHAPE) for name in rivals)]


def chart(
    names: Sequence[str], rivals: Sequence[str], ink: Ink, width: int | str
) -> alt.LayerChart:
    """Speedup against loss. Its data have names: see `data`."""
    styled = styles(names, rivals, ink)
    domain = [name for name, _, _ in styled]
    colours = alt.Scale(domain=domain, range=[each for _, each, _ in styled])
    shapes = alt.Scale(domain=domain, range=[each for _, _, each in styled])
    dashes = alt.Scale(domain=domain, range=[[5, 3] if n in rivals else [1, 0] for n in domain])
    # The page has its own legend, which also filters, and its own ground.
    alone = ink is PAPER
    own = alt.Legend(title=None, orient="top", symbolSize=90, columnPadding=24)
    legend = own if alone else None
    colour = alt.Color("series:N", legend=legend, scale=colours)
    by_colour = {"field": "series", "type": "nominal", "legend": None, "scale": colours}
    # Equal ratios are equal distances.
    x = alt.X("x:Q", title="times as fast").scale(type="log", nice=False, padding=16)
    x = x.axis(values=TICKS, labelExpr="datum.label + 'x'", format="~r")
    y = alt.Y("y:Q", title="loss of CLIP score").scale(zero=False, nice=True, padding=12)
    y = y.axis(format=".1~%", tickCount=6)
    points = alt.Chart(alt.NamedData(name="points"))
    layers = [
        alt.Chart(alt.NamedData(name="targets"))
        .mark_rule(strokeDash=[2, 4], aria=False)
        .encode(x="x:Q", color=alt.value(ink.text), opacity=alt.value(0.35)),
        alt.Chart(alt.NamedData(name="limits"))
        .mark_rule(strokeWidth=1.5, strokeDash=[6, 3], aria=False)
        .encode(y="y:Q", color=alt.value(ink.limit)),
        alt.Chart(alt.NamedData(name="limits"))
        .mark_text(align="right", baseline="bottom", dy=-4, fontWeight="bold")
        .encode(y="y:Q", x=alt.value("width"), text="label:N", color=alt.value(ink.limit)),
        points.mark_line(strokeWidth=1.75, aria=False, opacity=0.75).encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash("series:N", legend=None, scale=dashes),
            detail="series:N",
            order="order:Q",
        ),
        points.mark_rule(strokeWidth=1.25, opacity=0.6, aria=False).encode(
            x="x:Q", y="low:Q", y2="high:Q", color=colour
        ),
        alt.Chart(alt.NamedData(name="selected"))
        .mark_point(size=420, strokeWidth=2.5, filled=False, aria=False)
        .encode(x="x:Q", y="y:Q", color=alt.value(ink.text)),
        points.mark_point(filled=True, strokeWidth=1.5, cursor="pointer").encode(
            x="x:Q",
            y="y:Q",
            shape=alt.Shape("series:N", legend=legend, scale=shapes),
            size=alt.condition("datum.chosen", alt.value(170), alt.value(60)),
            fill=alt.condition("datum.timed", by_colour, alt.value(ink.paper)),
            stroke=alt.condition("datum.chosen", alt.value(ink.text), by_colour),
            tooltip="id:N",
            description="words:N",
        ),
        points.mark_text(dy=-12, fontSize=10, aria=False).encode(
            x="x:Q", y="y:Q", text="label:N", color=alt.value(ink.text)
        ),
    ]
    return (
        alt.layer(*layers)
        .properties(width=width, height=380, background=ink.paper if alone else "transparent")
        .configure(
            font="system-ui, sans-serif",
            autosize={"type": "fit", "contains": "padding"},
            view={"stroke": None},
            axis={
                "labelColor": ink.text,
                "titleColor": ink.text,
                "gridColor": ink.grid,
                "domainColor": ink.grid,
                "tickColor": ink.grid,
                "labelFontSize": 12,
                "titleFontSize": 13,
                "titleFontWeight": "normal",
            },
            text={"fontSize": 12},
        )
    )


def data(view: SetupView) -> dict[str, list[dict[str, Any]]]:
    """What the chart draws of a setup, by the names that it has there."""
    limit = {"y": view.limit, "label": f"limit {view.limit * 100:.3g}%"}
    points = [
        _row(f"{number}/{place}", place, series.name, point, CEILING * view.limit)
        for number, series in enumerate(view.series)
        for place, point in enumerate(series.points)
    ]
    return {
        "points": _legible(points),
        "limits": [limit],
        "targets": [{"x": target} for target in view.targets],
        "selected": [],
    }


def _legible(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with no number that would lie on another: the fastest of these keeps its own."""
    places = [math.log(point["x"]) for point in points]
    room = APART * (max(places) - min(places)) if places else 0.0
    last = math.inf
    numbered = [each for each in zip(places, points, strict=True) if each[1]["label"]]
    for place, point in sorted(numbered, key=lambda each: -each[0]):
        if last - place < room:
            point["label"] = ""
        else:
            last = place
    return points


def _row(name: str, place: int, series: str, point: Point, top: float) -> dict[str, Any]:
    """A point; what was chosen has an interval."""
    chosen = bool(point.marks)
    return {
        "id": name,
        "series": series,
        "order": place,
        "x": point.speedup,
        "y": min(point.loss, top),
        "low": min(point.low if chosen else point.loss, top),
        "high": min(point.high if chosen else point.loss, top),
        "label": f"{point.loss:.0%}" if point.loss > top else "",
        "timed": point.timed,
        "chosen": chosen,
        "words": words(series, point),
    }


def words(name: str, point: Point) -> str:
    """A point, said."""
    about = "" if point.timed else "about "
    chosen = f", chosen for {', '.join(point.marks)}" if point.marks else ""
    return f"{name}: {about}{point.speedup:.2f} times as fast, loss {point.loss:.1%}{chosen}"


def compiled(drawn: alt.LayerChart) -> dict[str, Any]:
    """The chart as Vega draws it."""
    found: dict[str, Any] = vl_convert.vegalite_to_vega(drawn.to_dict(), vl_version=VEGA_LITE)
    return found


def as_svg(view: SetupView, names: Sequence[str], rivals: Sequence[str]) -> str:
    """The frontier of a setup by itself, with a legend."""
    spec = chart(names, rivals, PAPER, 620).to_dict()
    spec["datasets"] = data(view)
    text: str = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE)
    return text
