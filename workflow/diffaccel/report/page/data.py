"""What the page shows, gathered from the records of a platform's folder of results.

A record that is missing or broken is told, and holds up nothing else: a run that failed in part has
a page, too.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from diffaccel.errors import InputError
from diffaccel.evaluation.gallery import KEPT, Gallery
from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.recipes import advice
from diffaccel.recipes.known import Known, Option
from diffaccel.recipes.recipe import recipe_of
from diffaccel.report.page.album import Album
from diffaccel.report.page.history import Gain, Influence, gains, influences, short
from diffaccel.report.page.steps import StepsView, compared
from diffaccel.report.table import failures, share_interval
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.estimates import Estimate
from diffaccel.search.measuring import opened
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.stages import collect, serving
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import SCHEMA, digest, dumps, read_record, to_json, with_checksum


@dataclass(frozen=True)
class Point:
    """A candidate in a frontier.

    Args:
        parameters: its values, in words.
        timed: whether its speedup was measured; else it is predicted.
        low, high: interval of the loss.
        within: whether its loss is below the limit.
        error: standard error of the speedup, relative; None where it was not timed often enough.
        seconds: per image.
        memory: bytes of the GPU's memory, or the machine's, that calls take at most.
        means: mean per metric.
        marks: what it was chosen for: ``bound``, or a required speedup, ``1.5x``.
        images: in the album, by prompt.
    """

    parameters: str
    speedup: float
    error: float | None
    timed: bool
    loss: float
    low: float
    high: float
    within: bool
    prompts: int
    seconds: float
    memory: int | None
    means: dict[str, float]
    marks: list[str]
    warnings: list[str]
    images: list[int]


@dataclass(frozen=True)
class Doubt:
    """A point whose loss may be below the limit.

    Args:
        place: which of the series' points.
        more: about how many more prompts would tell; None: thousands.
        telling: the same in words.
        command: what evaluates it on so many, if there are.
    """

    place: int
    more: int | None
    telling: str
    command: str


@dataclass(frozen=True)
class Series:
    """The frontier of a cell, mildest candidate first.

    Args:
        bound: which of the points is the fastest within the limit.
        sure: which is the fastest that is clearly within it, and faster than the baseline pipeline.
        doubt: what is the fastest within the limit, where that is not clear.
        recipe: of what is clearly within it, as a file of its own; empty where nothing is.
        script: the id of a task whose script has the same parameters, if there is one.
        clear: whether the prompts tell that the bound keeps the limit.
        time_up: whether the search's time was up before it was done.
        is_rival: whether this is the fewer-steps baseline itself.
        reason: why there are no points, or no bound.
        evaluated, timed: how many candidates were.
        gains, influences: how it was searched.
    """

    name: str
    points: list[Point]
    bound: int | None
    sure: int | None
    doubt: Doubt | None
    recipe: str
    script: str | None
    clear: bool
    time_up: bool
    is_fewer_steps: bool
    reason: str
    evaluated: int
    timed: int
    gains: list[Gain]
    influences: list[Influence]

    @property
    def best(self) -> Point | None:
        """The fastest within the limit."""
        return None if self.bound is None else self.points[self.bound]

    @property
    def use(self) -> Point | None:
        """The fastest that is clearly within it."""
        return None if self.sure is None else self.points[self.sure]


@dataclass(frozen=True)
class Unmet:
    """A speedup that cannot be had."""

    accelerators: str
    required: str
    reason: str
    nearest: str


@dataclass(frozen=True)
class ConfigurationView:
    """All that is shown of one (model, scheduler, steps).

    Args:
        seconds: of the baseline pipeline, per image.
        width, height: of an image, in pixels.
        targets: the speedups that were asked for of every cell.
        prompts: those that images were kept of.
        plain: the baseline's images in the album.
        unmet: of the targets and of the user's tasks.
    """

    configuration: Configuration
    slug: str
    seconds: float
    width: int
    height: int
    limit: float
    targets: list[float]
    prompts: list[str]
    plain: list[int]
    series: list[Series]
    unmet: list[Unmet]


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    count: int

    @classmethod
    def of(cls, flags: Iterable[bool]) -> Share:
        every = list(flags)
        return cls(sum(every), len(every))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share."""
        return share_interval(self.hits, self.count)


@dataclass(frozen=True)
class Trust:
    """How far the numbers can be trusted.

    Args:
        quiet: timings whose pairs agreed.
        error: median of the speedups' relative standard errors; None where nothing was timed.
        worst: the largest of them.
        clear: bounds of which the prompts tell that they keep the limit.
        asked: scripts that are as fast as was asked, and lose no more than they may.
        found: the same of those that are as fast as when they were found.
        undecided: of how many others the timings do not tell each of the two.
        heldout: of these scripts' losses on unseen prompts, those within the limit.
        scores: per configuration, the baseline's mean score, and that with each other's prompts.
        prompts: the prompts, by model; the first configuration's.
    """

    environments: list[Environment]
    quiet: Share
    pairs: Share
    error: float | None
    worst: float | None
    evaluated: tuple[int, int]
    confidence: float
    clear: Share
    asked: Share
    found: Share
    undecided: tuple[int, int]
    heldout: Share
    scores: dict[str, tuple[float, float]]
    prompts: dict[str, list[str]]
    seeds: list[int]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Args:
        table: one row a task, as in summary.csv.
        serving: one row a script and batch size, as in serving.csv.
        steps: step counts compared, where there are several.
        scripts: sources, by task.
        failed: what could not be made or read: name, why, and where to look.
        misunderstood: sentences that are no task, each with what is wrong.
        date: of the newest record.
    """

    platform: str
    date: str
    configurations: list[ConfigurationView]
    table: pd.DataFrame
    serving: pd.DataFrame
    steps: list[StepsView]
    scripts: dict[str, str]
    failed: list[tuple[str, str, str]]
    misunderstood: list[tuple[str, str]]
    trust: Trust
    album: Album = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The accelerators, as they first appear, and last the fewer-steps baseline."""
        first = [
            s.name for view in self.configurations for s in view.series if not s.is_fewer_steps
        ]
        fewer_steps = [
            s.name for view in self.configurations for s in view.series if s.is_fewer_steps
        ]
        return list(dict.fromkeys([*first, *fewer_steps]))

    @property
    def fewer_steps(self) -> list[str]:
        """Those of the names that are baselines of fewer steps'."""
        found = {s.name for view in self.configurations for s in view.series if s.is_fewer_steps}
        return [name for name in self.names if name in found]


def gather(folder: Path) -> Page:
    """Everything in a platform's folder of results, e.g. ``results/cpu``."""
    album = Album()
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
                views.append(_view(one, folder, album))
                known.append(one)
    for path in sorted(folder.glob("verify/*.json")):
        with _told(failed, path):
            verifications[path] = read_record(Verification, path)
    failed += [(path.stem, line, str(path.relative_to(folder))) for path, line in failures(folder)]
    dates = [a.baseline.date for a in known] + [row.date for one in known for row in _measured(one)]
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
        trust=_trust(known, [*verifications.values()]),
        album=album,
    )


@contextlib.contextmanager
def _told(failed: list[tuple[str, str, str]], path: Path) -> Iterator[None]:
    """What cannot be read is told, and left out."""
    try:
        yield
    except InputError as error:
        failed.append((path.stem, str(error), f"{path.parent.name}/{path.name}"))


def _view(known: Known, folder: Path, album: Album) -> ConfigurationView:
    baseline, search = known.baseline, known.search
    if not known.cells:
        raise InputError("was searched beside another baseline than the one that is there")
    configuration = baseline.configuration
    cells = [*known.every.values()]
    plain = folder / "baseline" / configuration.slug
    gallery = Gallery.beside(folder / "journal", baseline)
    with opened([c.cell for c in cells], baseline, plain, folder / "journal", cells[0].search) as (
        searches,
        _,
    ):
        series = [
            _series(known, frontier, beside, gallery, album)
            for frontier, beside in zip(cells, searches, strict=True)
        ]
    asked = [answer for answer in search.answers if answer.task.origin != "bound"]
    wanted = {a.task.required for a in asked if a.task.origin == "target"}
    shown = [path for n in range(KEPT) if (path := plain / f"{n:03}.png").is_file()]
    return ConfigurationView(
        configuration=configuration,
        slug=configuration.slug,
        seconds=known.baseline.seconds_per_image,
        width=baseline.spec.width,
        height=baseline.spec.height,
        limit=known.loss_limit,
        targets=sorted(each for each in wanted if each is not None),
        prompts=baseline.prompts[:KEPT],
        plain=[album.add(path, number) for number, path in enumerate(shown)],
        series=series,
        unmet=[_unmet(answer) for answer in asked if answer.status != "met"],
    )


def _series(
    known: Known, frontier: CellResult, search: CellSearch, gallery: Gallery, album: Album
) -> Series:
    names = frontier.cell.accelerators
    marks = _marks(frontier, known.search.answers)
    is_fewer_steps = (
        known.search.fewer_steps is not None and known.search.fewer_steps.cell == frontier.cell
    )
    timed = known.timed(names)
    beyond = [_predicted(each, search) for each in _beyond(frontier, search)]
    options = sorted([*timed, *beyond], key=lambda one: (one.speedup, one.loss))
    points = [_point(one, known, frontier, marks, gallery, album) for one in options]
    bound, limit = frontier.bound, frontier.loss_limit
    slots = [n for n, one in enumerate(points) if "bound" in one.marks]
    use = advice.fastest_clear(known.baseline, timed, limit)
    reason = frontier.reason or ("" if bound else "no candidate keeps the loss limit")
    return Series(
        name=combination(names).title,
        points=points,
        bound=slots[0] if slots else None,
        sure=next((n for n, one in enumerate(options) if one.measured is use), None),
        doubt=_doubt(known.baseline, options, timed, limit),
        recipe=_recipe(known.baseline, use) if use else "",
        script=_script(use, known.search.answers) if use else None,
        clear=frontier.clear,
        time_up=frontier.time_up,
        is_fewer_steps=is_fewer_steps,
        reason=reason,
        evaluated=frontier.measured,
        timed=frontier.timed,
        gains=list(gains(search, limit)),
        influences=influences(search),
    )


def _doubt(
    baseline: Baseline, options: Sequence[Option], timed: Sequence[Option], limit: float
) -> Doubt | None:
    found = advice.unclear_bound(baseline, timed, limit)
    if found is None:
        return None
    fastest, more, command = found
    place = next(n for n, one in enumerate(options) if one is fastest)
    return Doubt(place, more, advice.telling(more, command), command)


def _recipe(baseline: Baseline, used: Measurement) -> str:
    """As the command writes it into a file."""
    return dumps(with_checksum({"schema": SCHEMA, **to_json(recipe_of(baseline, used))}))


def _script(used: Measurement, answers: Sequence[Answer]) -> str | None:
    """The task that has a script of this candidate."""
    same = (
        answer.task.id
        for answer in answers
        if answer.chosen is not None and answer.chosen.parameters == used.parameters
    )
    return next(same, None)


def _marks(frontier: CellResult, answers: Sequence[Answer]) -> dict[str, list[str]]:
    """By digest of a candidate, what it was chosen for."""
    marks: dict[str, list[str]] = {}
    if frontier.bound is not None:
        marks[digest(frontier.bound.parameters)] = ["bound"]
    for answer in answers:
        task, chosen = answer.task, answer.chosen
        if chosen is not None and task.cell == frontier.cell and task.origin != "bound":
            marks.setdefault(digest(chosen.parameters), []).append(f"{task.required:g}x")
    return marks


def _beyond(frontier: CellResult, search: CellSearch) -> list[Estimate]:
    """What lies in the front beyond the limit: evaluated, but not timed, since it cannot be an
    answer. With these the eye sees where the images break."""
    found = pareto.front(search.predictions.estimates())
    return [each for each in found if not each.timed and each.loss >= frontier.loss_limit]


def _predicted(estimate: Estimate, search: CellSearch) -> Option:
    evaluation = search.history.evaluations[digest(estimate.parameters)]
    row = Measurement(**vars(evaluation), speedup=estimate.speedup, timing=None)
    return Option(row, estimate.loss)


def _point(
    one: Option,
    known: Known,
    frontier: CellResult,
    marks: dict[str, list[str]],
    gallery: Gallery,
    album: Album,
) -> Point:
    row = one.measured
    error = row.timing.error if row.timing else math.inf
    return Point(
        parameters=short(row.parameters),
        speedup=row.speedup,
        error=error if math.isfinite(error) else None,
        timed=row.timing is not None,
        loss=row.loss,
        low=row.loss_interval[0],
        high=row.loss_interval[1],
        within=one.loss < frontier.loss_limit,
        prompts=row.prompts,
        seconds=known.baseline.seconds_per_image / row.speedup,
        memory=row.memory,
        means=row.means,
        marks=marks.get(digest(row.parameters), []),
        warnings=row.warnings,
        images=[album.add(path, n) for n, path in enumerate(gallery.paths(row.parameters))],
    )


def _unmet(answer: Answer) -> Unmet:
    task, near = answer.task, answer.nearest
    return Unmet(
        accelerators=combination(task.cell.accelerators).title if task.cell else "",
        required=f"{task.required:g}x" if task.required else task.sentence or "",
        reason=answer.reason,
        nearest=f"{near.speedup:.2f}x, loss {near.loss:.1%}" if near else "",
    )


def _measured(known: Known) -> list[Measurement]:
    """Every timed candidate in the records of a configuration, once."""
    cells = [*known.search.cells, *([known.search.fewer_steps] if known.search.fewer_steps else [])]
    rows = [row for cell in cells for row in (*cell.front, cell.bound) if row is not None]
    rows += [answer.chosen for answer in known.search.answers if answer.chosen is not None]
    return [*{digest(row.parameters): row for row in rows}.values()]


def _trust(known: Sequence[Known], verifications: Sequence[Verification]) -> Trust:
    rows = [row for one in known for row in _measured(one)]
    timings = [row.timing for row in rows if row.timing is not None]
    cells = [cell for one in known for cell in one.search.cells]
    baselines = [one.baseline for one in known]
    found = [result for verification in verifications for result in verification.results]
    errors = [timing.error for timing in timings if math.isfinite(timing.error)]
    counts = [row.prompts for row in rows if row.scores]
    pairs = sum(len(each.baseline) for each in timings)
    return Trust(
        environments=_distinct(baselines),
        quiet=Share.of(not row.warnings for row in rows if row.timing is not None),
        pairs=Share(sum(each.counted for each in timings), pairs),
        error=statistics.median(errors) if errors else None,
        worst=max(errors, default=None),
        evaluated=(min(counts, default=0), max(counts, default=0)),
        confidence=max((each.options.confidence for each in baselines), default=0.95),
        clear=Share.of(cell.clear for cell in cells if cell.bound is not None),
        asked=Share.of(result.outcome == "met" for result in found),
        found=Share.of(result.kept == "met" for result in found),
        undecided=(
            sum(result.outcome == "undecided" for result in found),
            sum(result.kept == "undecided" for result in found),
        ),
        heldout=Share.of(each.heldout.ok for each in found if each.heldout is not None),
        scores={
            each.configuration.slug: (statistics.mean(each.scores[SCORE]), each.shuffled_score)
            for each in baselines
        },
        prompts={each.spec.name: each.prompts for each in reversed(baselines)},
        seeds=sorted({each.options.seed for each in baselines}),
    )


def _distinct(baselines: Sequence[Baseline]) -> list[Environment]:
    return [*{digest(str(each.environment)): each.environment for each in baselines}.values()]
