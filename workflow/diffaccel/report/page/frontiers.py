"""The view of a configuration: the frontier of each of its cells, and what cannot be had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.gallery import KEPT, Gallery, originals_of
from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.plugins.accelerators import combination
from diffaccel.recipes import advice
from diffaccel.recipes.known import Known, Option
from diffaccel.recipes.recipe import recipe_of
from diffaccel.report.page.album import Album
from diffaccel.report.page.eyes import Eyes
from diffaccel.report.page.history import gains, influences, short
from diffaccel.report.page.views import FASTEST, ConfigurationView, Doubt, Point, Series, Unmet
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.estimates import Estimate
from diffaccel.search.measuring import opened
from diffaccel.search.records import Answer, CellResult
from diffaccel.store.jsonio import SCHEMA, digest, dumps, to_json, with_checksum


def configuration_view(known: Known, folder: Path, album: Album, worst: Album) -> ConfigurationView:
    """All that is shown of a configuration; its images go into the album, and those that metrics
    call the worst into another one.

    Raises:
        InputError: the search's record names another baseline than the one that is there.
    """
    baseline, search = known.baseline, known.search
    if not known.cells:
        raise InputError("was searched against another baseline than the one that is there")
    configuration = baseline.configuration
    cells = [*known.every.values()]
    images = folder / "baseline" / configuration.slug
    pictures = Pictures(
        Gallery.beside(folder / "journal", baseline), album, Eyes.read(known, folder, worst)
    )
    with opened([c.cell for c in cells], baseline, images, folder / "journal", cells[0].search) as (
        searches,
        _,
    ):
        series = [
            _series(known, frontier, beside, pictures)
            for frontier, beside in zip(cells, searches, strict=True)
        ]
    asked = [answer for answer in search.answers if answer.task.origin != "bound"]
    wanted = {a.task.required for a in asked if a.task.origin == "target"}
    return ConfigurationView(
        configuration=configuration,
        slug=configuration.slug,
        seconds=known.baseline.seconds_per_image,
        width=baseline.spec.width,
        height=baseline.spec.height,
        limit=known.loss_limit,
        targets=sorted(each for each in wanted if each is not None),
        prompts=baseline.texts[:KEPT],
        texts=pictures.eyes.texts,
        baseline=[
            album.add(path, number)
            for number, path in originals_of(baseline, folder).items()
            if number < KEPT
        ],
        series=series,
        unmet=[_unmet(answer) for answer in asked if answer.status != "met"],
    )


@dataclass(frozen=True)
class Pictures:
    """The images of a configuration: where they are, and the albums that they go into."""

    gallery: Gallery
    album: Album
    eyes: Eyes


def _series(known: Known, frontier: CellResult, search: CellSearch, pictures: Pictures) -> Series:
    names = frontier.cell.accelerators
    marks = _marks(frontier, known.search.answers)
    is_fewer_steps = (
        known.search.fewer_steps is not None and known.search.fewer_steps.cell == frontier.cell
    )
    timed = known.timed(names)
    beyond = [_predicted(each, search) for each in _beyond(frontier, search)]
    options = sorted([*timed, *beyond], key=lambda one: (one.speedup, one.loss))
    bound, limit = frontier.bound, frontier.loss_limit
    use = advice.fastest_clear(known.baseline, timed, limit)
    points = [
        _point(one, known, frontier, marks, pictures, used=one.measured is use) for one in options
    ]
    slots = [n for n, one in enumerate(points) if FASTEST in one.marks]
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
        influences=influences(search, limit),
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
        marks[digest(frontier.bound.parameters)] = [FASTEST]
    for answer in answers:
        task, chosen = answer.task, answer.chosen
        if chosen is not None and task.cell == frontier.cell and task.origin != "bound":
            marks.setdefault(digest(chosen.parameters), []).append(f"{task.required:g}x")
    return marks


def _beyond(frontier: CellResult, search: CellSearch) -> list[Estimate]:
    """What lies in the front beyond the limit: evaluated, but not timed, since it cannot be an
    answer. With these the eye sees where the images break."""
    found = pareto.front(search.predictions.estimates(frontier.loss_limit))
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
    pictures: Pictures,
    *,
    used: bool,
) -> Point:
    row, album, eyes = one.measured, pictures.album, pictures.eyes
    kept, said = pictures.gallery.paths(row.parameters), eyes.preference(row.parameters)
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
        used=frontier.search.shares(row),
        prompts=row.prompts,
        seconds=known.baseline.seconds_per_image / row.speedup,
        memory=row.memory,
        means=row.means,
        marks=marks.get(digest(row.parameters), []),
        warnings=row.warnings,
        images=[album.add(path, n) for n, path in kept.items() if n < KEPT],
        worst=eyes.worst(row.parameters, frontier, used=used),
        eyes=str(said or ""),
    )


def _unmet(answer: Answer) -> Unmet:
    task, near = answer.task, answer.nearest
    return Unmet(
        accelerators=combination(task.cell.accelerators).title if task.cell else "",
        required=f"{task.required:g}x" if task.required else task.sentence or "",
        reason=answer.reason,
        nearest=f"{near.speedup:.2f}x, loss {near.loss:.1%}" if near else "",
    )
