"""What the page shows, gathered from the records of a platform's folder of results.

A record that is missing or broken is named on the page and left out; the rest is shown. So a run
that failed in part has a page, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline
from diffaccel.recipes.known import Known
from diffaccel.report.page.album import Album
from diffaccel.report.page.frontiers import configuration_view
from diffaccel.report.page.steps import compared
from diffaccel.report.page.trust import timed_candidates, trust
from diffaccel.report.page.views import ConfigurationView, Page
from diffaccel.report.table import failures
from diffaccel.search.records import Search
from diffaccel.stages import collect, serving
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record


def gather(folder: Path) -> Page:
    """Everything in a platform's folder of results, e.g. ``results/cpu``."""
    album, worst = Album(), Album()
    failed: list[tuple[str, str, str]] = []
    searches: list[Search] = []
    known: list[Known] = []
    views: list[ConfigurationView] = []
    verifications: dict[Path, Verification] = {}
    for path in sorted(folder.glob("search/*.json")):
        with _told(failed, path):
            search = read_record(Search, path)
            searches.append(search)
            if search.configuration is not None:
                one = Known(read_record(Baseline, folder / "baseline" / path.name), search)
                views.append(configuration_view(one, folder, album, worst))
                known.append(one)
    for path in sorted(folder.glob("verify/*.json")):
        with _told(failed, path):
            verifications[path] = read_record(Verification, path)
    failed += [(path.stem, line, str(path.relative_to(folder))) for path, line in failures(folder)]
    dates = [one.baseline.date for one in known]
    dates += [row.date for one in known for row in timed_candidates(one)]
    return Page(
        platform=folder.name,
        date=max(dates, default=""),
        configurations=views,
        table=collect.summary(searches, verifications),
        serving=serving.table(verifications.values()),
        steps=list(compared(known)),
        scripts={
            path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("code/*.py"))
        },
        failed=failed,
        misunderstood=[
            (answer.task.sentence or answer.task.id, answer.reason.splitlines()[0])
            for answer in collect.answers(searches)
            if answer.status == "unparsed"
        ],
        trust=trust(known, [*verifications.values()]),
        album=album,
        worst=worst,
    )


@contextlib.contextmanager
def _told(failed: list[tuple[str, str, str]], path: Path) -> Iterator[None]:
    """What cannot be read is told, and left out."""
    try:
        yield
    except InputError as error:
        failed.append((path.stem, str(error), f"{path.parent.name}/{path.name}"))
