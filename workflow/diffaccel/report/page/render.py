"""The page as HTML: everything is inside, nothing is fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from diffaccel.recipes.codegen import TEMPLATES
from diffaccel.report.page import charts, compare
from diffaccel.report.page.album import WORST_BYTES
from diffaccel.report.page.gather import gather
from diffaccel.report.page.parts import write as write_parts
from diffaccel.report.page.views import Page
from diffaccel.store.jsonio import to_json, write_output
from diffaccel.version import __version__

FOLDER = TEMPLATES / "report"
DIGITS = 6
"""Significant digits of a number in the page's data."""


def write(folder: Path, out: Path | None = None, parts: bool = False) -> Path:
    """Writes the page of a platform's folder of results, e.g. ``results/cpu``; says where.

    Args:
        out: by default ``report.html`` in this folder.
        parts: also writes its parts beside it, into ``report/``.
    """
    page, out = gather(folder), out or folder / "report.html"
    write_output(out, render(page))
    if parts:
        write_parts(page, out.with_suffix(""))
    return out


def write_compared(first: Path, second: Path, out: Path | None = None) -> Path:
    """Writes a page with two platforms' folders of results side by side; says where.

    Args:
        out: by default ``compared.html`` in the first.

    Raises:
        InputError: nothing was searched in one of them.
    """
    runs = compare.Run.read(first), compare.Run.read(second)
    pairs = compare.pairs(*runs)
    rows = [row for pair in pairs for row in pair.rows]
    text = (
        _environment()
        .get_template("compare.html.jinja")
        .render(
            first=runs[0],
            second=runs[1],
            pairs=pairs,
            shown=compare.shown,
            differ=sum(row.differ for row in rows),
            count=len(rows),
            css=_style(),
            version=__version__,
        )
    )
    out = out or first / "compared.html"
    write_output(out, text)
    return out


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{share:.0%}"
    return environment


def _style() -> Markup:
    return Markup((FOLDER / "page.css").read_text(encoding="utf-8"))


def render(page: Page) -> str:
    """The page as one HTML text."""
    environment = _environment()
    fewer_steps = page.fewer_steps
    spec = charts.compiled(charts.chart(page.names, fewer_steps, charts.PAGE, "container"))
    return environment.get_template("page.html.jinja").render(
        page=page,
        styles=charts.styles(page.names, fewer_steps, charts.PAGE),
        data=_embedded(_data(page)),
        spec=_embedded(spec),
        steps_spec=_embedded(charts.compiled(charts.steps_chart(page.names, fewer_steps))),
        css=_style(),
        code=_script((FOLDER / "page.js").read_text(encoding="utf-8")),
        library=_script(library() if page.configurations else ""),
        version=__version__,
    )


@cache
def library() -> str:
    """Vega, as vl-convert carries it."""
    text: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=charts.VEGA_LITE
    )
    return text


def _data(page: Page) -> dict[str, Any]:
    lines, scripts = highlighted(page.scripts)
    environments = page.trust.environments
    return {
        "device": environments[0].device if environments else "",
        "error": page.trust.error,
        "ceiling": charts.CEILING,
        "configurations": [
            {**to_json(view), "chart": charts.data(view)} for view in page.configurations
        ],
        "steps": [
            {
                "model": each.model,
                "scheduler": each.scheduler,
                "reference": each.reference,
                "points": charts.steps_data(each),
            }
            for each in page.steps
        ],
        "table": _table(page.table),
        "serving": _table(page.serving),
        "pictures": page.album.encoded(),
        "worst": page.worst.encoded(WORST_BYTES),
        "lines": lines,
        "scripts": scripts,
    }


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """By column, what is missing as None."""
    plain = table.astype(object).where(table.notna(), None)
    return {"columns": [*plain.columns], "rows": plain.values.tolist()}


def highlighted(sources: Mapping[str, str]) -> tuple[list[str], dict[str, list[int]]]:
    """Python sources as HTML: every line that there is, once, and the lines of each source. Scripts
    of one grid have nearly all of their lines in common."""
    numbers: dict[str, int] = {}
    found = {}
    for name, source in sources.items():
        text = highlight(source, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
        found[name] = [numbers.setdefault(line, len(numbers)) for line in text.splitlines()]
    return [*numbers], found


def _embedded(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever the texts in it are."""
    text = json.dumps(_short(value), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))


def _script(text: str) -> Markup:
    """Our own or the library's code, which must not end the element that it stands in."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _short(value: Any) -> Any:
    """The same with numbers of few digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _short(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_short(item) for item in value]
    return value.item() if hasattr(value, "item") else value
