"""How far each cell of a run is: what its search's record, or its journals, have by now."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.limits import Limit, limit_named
from diffaccel.machine.jobs import Job, Run
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.metric_choice import SCORE
from diffaccel.run.files import Files, Journal
from diffaccel.run.progress import Best, CellProgress
from diffaccel.store.jsonio import read_fields


def _key(parameters: Any) -> str:
    return json.dumps(parameters, sort_keys=True)


@dataclass
class _Evaluated:
    """What the journal of a cell tells."""

    journal: Journal
    candidates: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    """By digest of the baseline, then by candidate: the last evaluation."""

    def of(self, digest: str | None) -> Mapping[str, Mapping[str, Any]]:
        for own, row in self.journal.rows():
            kept = {name: row.get(name) for name in ("loss", "loss_interval", "failure", "spent")}
            kept["means"] = _means(row.get("scores") or {})
            self.candidates.setdefault(own, {})[_key(row.get("parameters"))] = kept
        return self.candidates.get(digest or "", {})


@dataclass(frozen=True)
class _Searched:
    """What is read of the record of a search."""

    cells: tuple[CellProgress, ...]
    seconds: float


@dataclass(frozen=True)
class _Baseline:
    """What is read of the record of a baseline.

    Args:
        means: by metric, as scores of one image.
    """

    digest: str
    means: Mapping[str, Sequence[float]]


class Cells:
    """How far the cells of the configurations are, by their records and journals.

    Args:
        store: ``results/<platform>``.
    """

    def __init__(self, store: Path, files: Files) -> None:
        self._store, self._files = store, files
        self._evaluated: dict[Path, _Evaluated] = {}
        self._timed: dict[str, tuple[Journal, dict[str, dict[str, float]]]] = {}

    def of(self, run: Run, slug: str, own: Sequence[Job]) -> tuple[CellProgress, ...]:
        """The cells of a configuration, as their record or the journals have them so far."""
        search = next((job for job in own if (job.stage, job.name) == ("search", slug)), None)
        to_make = slug in run.jobs.get("search", ())
        if not to_make or (search is not None and search.status == "done"):
            path = self._store / "search" / f"{slug}.json"
            found = self._files.get(path, lambda path: _searched(slug, path))
            if found is not None:
                return found.cells
        digest = self._digest(slug)
        cells = []
        for each in dict.fromkeys(_names(run, slug)):
            most = None if search is None else search.most.get(f"{slug}_{'+'.join(each)}")
            cells.append(self._cell(run, slug, each, digest, most))
        return tuple(cells)

    def _cell(
        self, run: Run, slug: str, names: tuple[str, ...], digest: str | None, most: int | None
    ) -> CellProgress:
        evaluated = self._evaluations(slug, names, digest)
        timed = self._timings(slug).get(digest or "", {})
        title = combination(names).title
        kept = [
            Best(slug, title, timed[key], row["loss"])
            for key, row in evaluated.items()
            if key in timed and row["failure"] is None and self._keeps(run, slug, row)
        ]
        best = max(kept, key=lambda each: each.speedup, default=None)
        fewer_steps = run.fewer_steps is not None and list(names) == run.fewer_steps
        fewer_steps = fewer_steps and list(names) not in run.configurations[slug]
        return CellProgress(title, len(evaluated), most, best, False, fewer_steps)

    def _baseline(self, slug: str) -> _Baseline | None:
        return self._files.get(self._store / "baseline" / f"{slug}.json", _measured)

    def _digest(self, slug: str) -> str | None:
        baseline = self._baseline(slug)
        return baseline.digest if baseline else None

    def _keeps(self, run: Run, slug: str, row: Mapping[str, Any]) -> bool:
        """Whether a candidate keeps its limits as far as they are told by means alone."""
        limits = [limit_named(words) for words in run.limits.get(slug, [])]
        own = next((each.value for each in limits if each.metric == SCORE), run.loss_limit)
        others = [each for each in limits if each.metric != SCORE and each.metric in row["means"]]
        return _loss(run, row) < own and (not others or self._keeps_means(slug, others, row))

    def _keeps_means(self, slug: str, limits: Sequence[Limit], row: Mapping[str, Any]) -> bool:
        from diffaccel.evaluation.limits import margins  # numpy comes with the metrics

        baseline = self._baseline(slug)
        means = baseline.means if baseline else {}
        told = (each for each in limits if each.kind in ("most", "least") or each.metric in means)
        return all(margins(each, means, row["means"])[0] > 0 for each in told)

    def _evaluations(
        self, slug: str, names: tuple[str, ...], digest: str | None
    ) -> Mapping[str, Mapping[str, Any]]:
        path = self._store / "journal" / "evaluations" / f"{slug}_{'+'.join(names)}.jsonl"
        return self._evaluated.setdefault(path, _Evaluated(Journal(path))).of(digest)

    def _timings(self, slug: str) -> dict[str, dict[str, float]]:
        """Of a configuration's model: by digest of the baseline, then by candidate, the last
        speedup."""
        model = configuration_of(slug).model
        path = self._store / "journal" / "timed" / f"{model}.jsonl"
        journal, found = self._timed.setdefault(model, (Journal(path), {}))
        for _, each in journal.rows():
            row = each.get("row") or {}
            timing = row.get("timing") or {}
            if "speedup" in timing:
                own = found.setdefault(str(each.get("baseline")), {})
                own[_key(row.get("parameters"))] = timing["speedup"]
        return found

    def seconds_of(self, slug: str) -> float:
        """Seconds that the search of a configuration took to measure, as its record has it; 0
        where there is none."""
        path = self._store / "search" / f"{slug}.json"
        found = self._files.get(path, lambda path: _searched(path.stem, path))
        return found.seconds if found else 0.0

    def seconds_so_far(self, run: Run, slug: str) -> float:
        """Seconds of evaluations that the journals of a configuration's cells have already."""
        if slug not in run.configurations:
            return 0.0
        digest = self._digest(slug)
        rows = (
            row
            for names in _names(run, slug)
            for row in self._evaluations(slug, names, digest).values()
        )
        return sum(row["spent"] or 0.0 for row in rows)


def _names(run: Run, slug: str) -> list[tuple[str, ...]]:
    """Accelerators of the cells of a configuration, and of the fewer-steps baseline."""
    fewer_steps = [run.fewer_steps] if run.fewer_steps else []
    return [tuple(names) for names in (*run.configurations[slug], *fewer_steps)]


def configuration_of(name: str) -> Configuration:
    """Of a job; that of a model is not of a configuration, and has the model's name."""
    return Configuration.named(name) or Configuration(name, "", 0)


def _measured(path: Path) -> _Baseline:
    found = read_fields(path)
    return _Baseline(found["digest"], _means(found["scores"]))


def _means(scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """By metric, as scores of one image."""
    return {name: [statistics.fmean(values)] for name, values in scores.items() if values}


def _loss(run: Run, row: Mapping[str, Any]) -> float:
    loss: float = row["loss"] if run.loss_confidence == "point" else row["loss_interval"][1]
    return loss


def _searched(slug: str, path: Path) -> _Searched:
    """Raises KeyError, TypeError or RecordError where it is not the record of a search."""
    record = read_fields(path)
    fewer_steps = record["fewer_steps"]
    cells, asked = [], record["cells"]
    every = [*asked, *([fewer_steps] if fewer_steps else [])]
    for each in every:
        names, bound = each["cell"]["accelerators"], each["bound"]
        title = combination(names).title
        best = Best(slug, title, bound["speedup"], bound["loss"]) if bound else None
        measured = each["measured"]
        beside = each is fewer_steps
        if not beside or names not in [cell["cell"]["accelerators"] for cell in asked]:
            cells.append(CellProgress(title, measured, measured, best, True, beside))
    return _Searched(tuple(cells), sum(each["seconds"] for each in every))
