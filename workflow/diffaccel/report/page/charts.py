"""The frontier as a chart: one specification, whose data are exchanged from configuration to
configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from diffaccel.report.page.steps import PLAIN, StepsView
from diffaccel.report.page.views import ConfigurationView, Point

Chart = alt.LayerChart | alt.FacetChart
VEGA_LITE = "v6.1"
"""Of the versions that vl-convert carries, the one that this altair writes."""
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
FEWER_STEPS_SHAPE = "triangle-right"
TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16]
CEILING = 5.0
"""Above so many limits the axis is broken: what loses more is drawn in a band of its own, not to
scale, with a number."""
BREAK, BAND = 1.06, (1.12, 1.4)
"""Where the axis is broken, and that band, in parts of the axis below."""
SIGHT = 1.5
"""Speedups that are asked for are shown up to so many times the fastest point: one that is far off
would push all else into a corner."""
MOST_SHOWN = 0.1
"""Losses from which step counts are not compared: nobody would use these."""
APART = 0.08
"""Share of a phone's width that such a number takes."""


@dataclass(frozen=True)
class Ink:
    """Colours; in the page they are CSS variables, so that one chart does for light and dark."""

    series: Sequence[str]
    fewer_steps: str
    text: str
    grid: str
    limit: str
    paper: str


PAGE = Ink(
    [f"var(--series-{n})" for n in range(6)],
    "var(--fewer-steps)",
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


def styles(
    names: Sequence[str], fewer_steps: Sequence[str], ink: Ink
) -> list[tuple[str, str, str]]:
    """Name, colour and shape of each series, the baselines of fewer steps' last."""
    own = [name for name in names if name not in fewer_steps]
    found = [
        (name, ink.series[n % len(ink.series)], SHAPES[(n + n // len(SHAPES)) % len(SHAPES)])
        for n, name in enumerate(own)
    ]
    return [*found, *((name, ink.fewer_steps, FEWER_STEPS_SHAPE) for name in fewer_steps)]


def chart(names: Sequence[str], fewer_steps: Sequence[str], ink: Ink, width: int | str) -> Chart:
    """Speedup against loss. Its data have names: see `data`."""
    styled = styles(names, fewer_steps, ink)
    domain = [name for name, _, _ in styled]
    colours = alt.Scale(domain=domain, range=[each for _, each, _ in styled])
    shapes = alt.Scale(domain=domain, range=[each for _, _, each in styled])
    dashes = alt.Scale(
        domain=domain, range=[[5, 3] if n in fewer_steps else [1, 0] for n in domain]
    )
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
    y = y.axis(format=".1~%", tickCount=6, labelExpr="datum.value > top ? '' : datum.label")
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
        alt.Chart(alt.NamedData(name="breaks"))
        .mark_rule(strokeWidth=6, strokeDash=[2, 3], aria=False)
        .encode(
            y="y:Q",
            color=alt.value(ink.text),
            opacity=alt.condition("datum.label", alt.value(0.25), alt.value(0)),
        ),
        alt.Chart(alt.NamedData(name="breaks"))
        .mark_text(align="left", baseline="bottom", dx=4, dy=-4)
        .encode(y="y:Q", x=alt.value(0), text="label:N", color=alt.value(ink.text)),
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
    made = alt.layer(*layers).add_params(alt.param(name="top", value=1.0))
    return _configured(made, ink, width, 380)


def _configured(made: Chart, ink: Ink, width: int | str, height: int) -> Chart:
    ground = ink.paper if ink is PAPER else "transparent"
    return made.properties(width=width, height=height, background=ground).configure(
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


def steps_chart(names: Sequence[str], fewer_steps: Sequence[str]) -> Chart:
    """Seconds of an image against loss, of all step counts. Its data: see `steps_data`."""
    styled = [*styles(names, fewer_steps, PAGE), (PLAIN, PAGE.text, "stroke")]
    domain = [name for name, _, _ in styled]
    colours = alt.Scale(domain=domain, range=[each for _, each, _ in styled])
    shapes = alt.Scale(domain=domain, range=[each for _, _, each in styled])
    colour = alt.Color("series:N", legend=None, scale=colours)
    x = alt.X("x:Q", title="seconds an image").scale(type="log", nice=False, padding=16)
    y = alt.Y("y:Q", title="loss relative to the most steps").scale(
        zero=False, nice=True, padding=12
    )
    points = alt.Chart(alt.NamedData(name="steps"))
    layers = [
        points.mark_line(strokeWidth=1, opacity=0.5, aria=False).encode(
            x=x,
            y=y.axis(format=".1~%", tickCount=6),
            color=colour,
            detail="line:N",
            order="order:Q",
        ),
        points.mark_point(filled=True, size=60).encode(
            x="x:Q",
            y="y:Q",
            color=colour,
            shape=alt.Shape("series:N", legend=None, scale=shapes),
            tooltip="words:N",
            description="words:N",
        ),
        points.mark_text(dy=-12, fontSize=11, aria=False).encode(
            x="x:Q", y="y:Q", text="label:N", color=alt.value(PAGE.text)
        ),
    ]
    return _configured(alt.layer(*layers), PAGE, "container", 320)


def steps_data(view: StepsView) -> list[dict[str, Any]]:
    """What the chart of step counts draws of a model and a sampler."""
    least = min(point.loss for point in view.points)
    shown = [point for point in view.points if point.loss < max(MOST_SHOWN, least)]
    return [
        {
            "series": point.series,
            "line": point.series if point.series == PLAIN else f"{point.series} {point.steps}",
            "order": point.seconds,
            "x": point.seconds,
            "y": point.loss,
            "label": str(point.steps) if point.series == PLAIN else "",
            "words": f"{point.series}, {point.steps} steps{', ' * bool(point.parameters)}"
            f"{point.parameters}: {point.seconds:.3g} s an image, loss {point.loss:.1%} "
            f"({point.low:.1%} to {point.high:.1%})",
        }
        for point in sorted(shown, key=lambda point: (point.series, point.steps, point.seconds))
    ]


def data(view: ConfigurationView) -> dict[str, list[dict[str, Any]]]:
    """What the chart draws of a configuration, by the names that it has there."""
    limit = {"y": view.limit, "label": f"limit {view.limit * 100:.3g}%"}
    top = CEILING * view.limit
    fastest = max((point.speedup for s in view.series for point in s.points), default=1.0)
    most = max((point.loss for series in view.series for point in series.points), default=0.0)
    points = [
        _row(f"{number}/{place}", place, series.name, point, Scale(top, most))
        for number, series in enumerate(view.series)
        for place, point in enumerate(series.points)
    ]
    # Vega wants a row also where nothing is drawn.
    line = {"y": view.limit, "label": ""}
    if most > top:
        line = {"y": top * BREAK, "label": f"above {top * 100:.3g}%, not to scale"}
    return {
        "points": _legible(points),
        "breaks": [line],
        "limits": [limit],
        "targets": [{"x": target} for target in view.targets if target <= SIGHT * fastest],
        "selected": [],
    }


def _legible(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with no number that would lie on another: the fastest of these keeps its own."""
    slots = [math.log(point["x"]) for point in points]
    room = APART * (max(slots) - min(slots)) if slots else 0.0
    last = math.inf
    numbered = [each for each in zip(slots, points, strict=True) if each[1]["label"]]
    for place, point in sorted(numbered, key=lambda each: -each[0]):
        if last - place < room:
            point["label"] = ""
        else:
            last = place
    return points


@dataclass(frozen=True)
class Scale:
    """Where losses are drawn.

    Args:
        top: the largest that is drawn to scale.
        most: the largest that there is.
    """

    top: float
    most: float

    def __call__(self, loss: float) -> float:
        if loss <= self.top:
            return loss
        low, high = BAND
        share = min(1.0, (loss - self.top) / (self.most - self.top)) if self.most > self.top else 0
        return self.top * (low + (high - low) * share)


def _row(name: str, place: int, series: str, point: Point, scale: Scale) -> dict[str, Any]:
    """A point; what was chosen has an interval."""
    chosen = bool(point.marks)
    return {
        "id": name,
        "series": series,
        "order": place,
        "x": point.speedup,
        "y": scale(point.loss),
        "low": scale(point.low if chosen else point.loss),
        "high": min(scale(point.high if chosen else point.loss), scale.top * BAND[1]),
        "label": f"{point.loss:.0%}" if point.loss > scale.top else "",
        "timed": point.timed,
        "chosen": chosen,
        "words": words(series, point),
    }


def words(name: str, point: Point) -> str:
    """A point, said."""
    about = "" if point.timed else "about "
    chosen = f", chosen for {', '.join(point.marks)}" if point.marks else ""
    return f"{name}: {about}{point.speedup:.2f} times as fast, loss {point.loss:.1%}{chosen}"


def compiled(drawn: Chart) -> dict[str, Any]:
    """The chart as Vega draws it."""
    found: dict[str, Any] = vl_convert.vegalite_to_vega(drawn.to_dict(), vl_version=VEGA_LITE)
    return found


def as_svg(view: ConfigurationView, names: Sequence[str], fewer_steps: Sequence[str]) -> str:
    """The frontier of a configuration by itself, with a legend."""
    spec = chart(names, fewer_steps, PAPER, 620).to_dict()
    spec["datasets"] = data(view)
    spec["params"] = [{"name": "top", "value": CEILING * view.limit}]
    text: str = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE)
    return text
