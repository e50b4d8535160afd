"""The parts of the page as files of their own, for Snakemake's report."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from PIL import Image

from diffaccel.report.page import charts
from diffaccel.report.page.trust import Share, Trust
from diffaccel.report.page.views import ConfigurationView, Page, Series
from diffaccel.report.picture import compose
from diffaccel.store.jsonio import write_text


def write(page: Page, folder: Path) -> None:
    """Writes, for each configuration, the frontier (SVG) and a sheet of images (PNG);
    ``bounds.csv`` and ``trust.csv`` over all."""
    for view in page.configurations:
        write_text(folder / f"{view.slug}.svg", charts.as_svg(view, page.names, page.fewer_steps))
        _sheet(view, page).save(folder / f"{view.slug}.png", optimize=True)
    write_text(folder / "bounds.csv", _csv(_bounds(page)))
    write_text(folder / "trust.csv", _csv(_trust(page.trust)))


def _sheet(view: ConfigurationView, page: Page) -> Image.Image:
    """The baseline pipeline's images above those of the fastest within the limit, where kept."""
    rows = [("baseline", page.album.images(view.baseline))]
    for series in view.series:
        if series.best is not None and (images := page.album.images(series.best.images)):
            label = f"{series.name}\n{series.best.speedup:.2f}x, loss {series.best.loss:.1%}"
            rows.append((label, images))
    return compose([(label, images) for label, images in rows if images], view.prompts)


def _csv(rows: list[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _bounds(page: Page) -> list[list[str]]:
    rows = [["model", "scheduler", "steps", *page.names]]
    for view in page.configurations:
        cells = {series.name: _bound(series) for series in view.series}
        configuration = view.configuration
        rows.append(
            [
                configuration.model,
                configuration.scheduler,
                str(configuration.steps),
                *(cells.get(name, "") for name in page.names),
            ]
        )
    return rows


def _bound(series: Series) -> str:
    if series.best is None:
        return "none"
    return f"{series.best.speedup:.2f}x{'' if series.clear else '?'}"


def _trust(trust: Trust) -> list[list[str]]:
    rows = [["what", "value"]]
    for one in trust.environments:
        rows += [["device", one.device], ["driver", one.driver], ["dtype", one.dtype]]
        rows += [list(pair) for pair in one.versions.items()]
    low, high = trust.evaluated
    error = "" if trust.error is None else f"{trust.error:.4f}"
    return [
        *rows,
        ["timings without a warning", _share(trust.quiet)],
        ["standard error of a speedup, relative, median", error],
        ["prompts a candidate", f"{low} to {high}"],
        ["losses of the fastest within the limit that are clearly below it", _share(trust.clear)],
        ["scripts as fast as was asked", _share(trust.asked)],
        ["scripts with too few timings to tell this", str(trust.undecided[0])],
        ["scripts as fast as when they were found", _share(trust.found)],
        ["scripts with too few timings to tell that", str(trust.undecided[1])],
        ["of these, with a loss within the limit on held-out prompts", _share(trust.heldout)],
    ]


def _share(share: Share) -> str:
    return f"{share.hits} of {share.count}"
