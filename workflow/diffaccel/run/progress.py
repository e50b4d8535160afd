"""How far a run is, read from what is on disk: notes of it and of its jobs, results and journals.

It is the same whoever reads it: the run's own terminal, another one, another node. Files are read
again only where they changed, and of journals what is new, so that looking each second costs next
to nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from diffaccel.errors import InputError
from diffaccel.experiment.grid import Configuration
from diffaccel.machine import jobs
from diffaccel.machine.jobs import STAGES, Job, Run
from diffaccel.plugins.accelerators import combination
from diffaccel.store.jsonio import read_fields, read_record

T = TypeVar("T")

LIKE: tuple[Callable[[Configuration], Any], ...] = (
    lambda configuration: (configuration.model, configuration.steps),
    lambda configuration: configuration.model,
    lambda configuration: None,
)
"""What configurations have in common that are expected to take as long, the most similar first."""


@dataclass(frozen=True)
class Best:
    """The fastest that was timed with a loss below the limit."""

    configuration: str
    accelerators: str
    speedup: float
    loss: float


@dataclass(frozen=True)
class CellProgress:
    """How far a cell is.

    Args:
        accelerators: as users name them.
        measured: candidates that were evaluated.
        most: how many are evaluated for its bound at most; more may be for its tasks. None: not
            known.
        done: whether its configuration was searched to the end.
        fewer-steps baseline: whether it is what the others are compared with.
    """

    accelerators: str
    measured: int
    most: int | None
    best: Best | None
    done: bool
    fewer_steps: bool = False


@dataclass(frozen=True)
class StageProgress:
    """Jobs of a stage: how many there are, as far as that is known yet, and what became of them."""

    stage: str
    total: int
    done: int
    running: int
    failed: int


@dataclass(frozen=True)
class Left:
    """Seconds that a run still takes.

    Args:
        seconds: of what there is ground for, from what the like took; None: there is none.
        unknown: stages that are still to come and of which nothing was ever done here.
    """

    seconds: float | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A run, as it is now.

    Args:
        state: ``none``: nothing ever ran in this store; ``killed``: it never said that it ended,
            and is not there any more.
        since: seconds since the epoch at which it started.
        seconds: that it has gone on, or went on.
        cells, cells_done: of all configurations that it is about, and of those that were searched
            to the end, before or in this run.
        measured: candidates evaluated in these cells.
        left: None unless it goes on.
        configurations: how far their cells are.
        working: jobs that run now.
        ended: jobs that ended well, oldest first; but scripts, of which there are many.
        failed: the last tries of those that failed. One that was asked to stop did not: the run
            stops, too, or tries it again.
        notes: what the run warned of.
        budgets: seconds that a job of a stage may measure, where that is limited; by stage.
    """

    store: str
    state: Literal["none", "going", "done", "failed", "killed"]
    host: str = ""
    log: str = ""
    since: float = 0.0
    seconds: float = 0.0
    cells: int = 0
    cells_done: int = 0
    measured: int = 0
    best: Best | None = None
    left: Left | None = None
    stages: tuple[StageProgress, ...] = ()
    configurations: dict[str, tuple[CellProgress, ...]] = field(default_factory=dict)
    working: tuple[Job, ...] = ()
    ended: tuple[Job, ...] = ()
    failed: tuple[Job, ...] = ()
    notes: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)


def find(results: Path) -> Path:
    """The store whose run is looked at: of those in a folder of results, or of that folder itself,
    one with a run that goes on, else the one with the latest.

    Raises:
        InputError: there is no such folder.
    """
    if not results.is_dir():
        raise InputError(f"{results}: there is no such folder, so nothing has run there yet")
    stores = [path.parent.parent for path in (*results.glob("logs/run.json"), *_runs_in(results))]
    going = [store for store in stores if jobs.is_held(store / jobs.LOCK)]
    newest = sorted(stores, key=lambda store: (store / jobs.RUN).stat().st_mtime)
    return (going or newest[::-1] or [results])[0]


def _runs_in(results: Path) -> Iterator[Path]:
    return results.glob(f"*/{jobs.RUN}")


class _Files:
    """Files that are read again only when they changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def get(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """What a file holds; what it held before while it is being written, None without it."""
        known = self._known.get(path)
        try:
            stat = path.stat()
            key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if known is None or known[0] != key:
                known = self._known[path] = (key, read(path))
        except FileNotFoundError:
            self._known.pop(path, None)
            return None
        except (InputError, OSError, KeyError, TypeError):
            pass
        return None if known is None else known[1]


class _Journal:
    """A journal, of which what is new is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Digest and measurement of the lines that came since."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [row for line in whole.splitlines() if (row := _row(line)) is not None]


def _row(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    try:
        content = json.loads(line)
        return (content["baseline"], content["measurement"]) if "measurement" in content else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _key(parameters: Any) -> str:
    return json.dumps(parameters, sort_keys=True)


@dataclass
class _Drawn:
    """What the journal of a cell tells."""

    journal: _Journal
    candidates: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    """By digest of the baseline, then by candidate: the last evaluation."""

    def of(self, digest: str | None) -> Mapping[str, Mapping[str, Any]]:
        for own, row in self.journal.rows():
            kept = {name: row.get(name) for name in ("loss", "loss_interval", "failure", "spent")}
            self.candidates.setdefault(own, {})[_key(row.get("parameters"))] = kept
        return self.candidates.get(digest or "", {})


@dataclass(frozen=True)
class _Searched:
    """What is looked at of the record of a search."""

    cells: tuple[CellProgress, ...]
    seconds: float


class Reader:
    """Reads how far the run in a store is, again and again.

    Args:
        store: ``results/<platform>``.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._files = _Files()
        self._evaluated: dict[Path, _Drawn] = {}
        self._timed: dict[str, tuple[_Journal, dict[str, dict[str, float]]]] = {}

    def read(self) -> Progress:
        """The run as it is now."""
        run = self._files.get(self.store / jobs.RUN, lambda path: read_record(Run, path))
        if run is None:
            return Progress(str(self.store), "none")
        going = run.ended is None and jobs.is_held(self.store / jobs.LOCK)
        every = self._jobs()
        own = [job for job in every if job.run == run.id]
        alive = [job for job in own if job.ended is None and self._lives(job, going)]
        dead = [job for job in own if job.ended is None and job not in alive]
        failed = [job for job in own if job.status == "failed"]
        done = {(job.stage, job.name) for job in own if job.status == "done"}
        configurations = {slug: self._configuration(run, slug, own) for slug in run.configurations}
        wanted = self._wanted(run, done)
        cells = [(slug, cell) for slug, own in configurations.items() for cell in own]
        bests = [cell.best for _, cell in cells if cell.best and not cell.fewer_steps]
        now = run.ended or (time.time() if going else self._last_sign(own, run))
        # What failed, and what needs it, is not to come.
        lost = {job.name for job in (*failed, *dead)}
        rest = {
            stage: [
                name
                for name in sorted(names)
                if (stage, name) not in done
                and lost.isdisjoint((name, _configuration_of(name).model))
            ]
            for stage, names in wanted.items()
        }
        left = self._left(run, every, rest, alive, now) if going else None
        return Progress(
            store=str(self.store),
            state=self._state(run, going),
            host=run.host,
            log=run.log,
            since=run.started,
            seconds=max(0.0, now - run.started),
            cells=sum(not cell.fewer_steps for _, cell in cells),
            cells_done=sum(cell.done and not cell.fewer_steps for _, cell in cells),
            measured=sum(cell.measured for _, cell in cells),
            best=max(bests, key=lambda best: best.speedup, default=None),
            left=left,
            stages=tuple(_stages(wanted, done, alive, [*failed, *dead])),
            configurations=configurations,
            working=tuple(sorted(alive, key=lambda job: job.started)),
            ended=tuple(
                sorted(
                    (job for job in own if job.status == "done" and job.stage != "code"),
                    key=lambda job: job.ended or 0,
                )
            ),
            failed=tuple(
                sorted([*failed, *map(_killed, dead)], key=lambda job: (job.started, job.name))
            ),
            notes=tuple(self._files.get(self.store / jobs.NOTES, _lines) or ()),
            budgets=run.budgets,
        )

    @staticmethod
    def _state(run: Run, going: bool) -> Literal["going", "done", "failed", "killed"]:
        if run.ended is None:
            return "going" if going else "killed"
        return "done" if run.well else "failed"

    def _jobs(self) -> list[Job]:
        found = []
        for stage in STAGES:
            for path in sorted((self.store / "logs" / stage).glob("*.json")):
                job = self._files.get(path, jobs.read_job)
                if job is not None:
                    found.append(job)
        return found

    def _lives(self, job: Job, going: bool) -> bool:
        path = self.store / "logs" / job.stage / f"{job.name}.json"
        return jobs.is_held(path) if job.locked else going

    def _last_sign(self, own: Sequence[Job], run: Run) -> float:
        """When something of a killed run was last written."""
        logs = [self.store / "logs" / job.stage / f"{job.name}.log" for job in own]
        journals = list((self.store / "journal").glob("*/*.jsonl"))
        times = [path.stat().st_mtime for path in (*logs, *journals) if path.exists()]
        return max(run.started, *times) if times else run.started

    # ---- cells -----------------------------------------------------------------------------

    def _configuration(self, run: Run, slug: str, own: Sequence[Job]) -> tuple[CellProgress, ...]:
        """The cells of a configuration, as their record or the journals have them so far."""
        search = next((job for job in own if (job.stage, job.name) == ("search", slug)), None)
        to_make = slug in run.jobs.get("search", ())
        if not to_make or (search is not None and search.status == "done"):
            path = self.store / "search" / f"{slug}.json"
            found = self._files.get(path, lambda path: _searched(slug, path))
            if found is not None:
                return found.cells
        digest = self._files.get(self.store / "baseline" / f"{slug}.json", _digest)
        names = [*run.configurations[slug], *([run.fewer_steps] if run.fewer_steps else [])]
        cells = []
        for each in dict.fromkeys(map(tuple, names)):
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
            if key in timed and row["failure"] is None and _loss(run, row) < run.loss_limit
        ]
        best = max(kept, key=lambda each: each.speedup, default=None)
        fewer_steps = run.fewer_steps is not None and list(names) == run.fewer_steps
        fewer_steps = fewer_steps and list(names) not in run.configurations[slug]
        return CellProgress(title, len(evaluated), most, best, False, fewer_steps)

    def _evaluations(
        self, slug: str, names: tuple[str, ...], digest: str | None
    ) -> Mapping[str, Mapping[str, Any]]:
        path = self.store / "journal" / "evaluations" / f"{slug}_{'+'.join(names)}.jsonl"
        return self._evaluated.setdefault(path, _Drawn(_Journal(path))).of(digest)

    def _timings(self, slug: str) -> dict[str, dict[str, float]]:
        """Of a configuration's model: by digest of the baseline, then by candidate, the last
        speedup."""
        model = _configuration_of(slug).model
        path = self.store / "journal" / "timed" / f"{model}.jsonl"
        journal, found = self._timed.setdefault(model, (_Journal(path), {}))
        for _, each in journal.rows():
            row = each.get("row") or {}
            timing = row.get("timing") or {}
            if "speedup" in timing:
                own = found.setdefault(str(each.get("baseline")), {})
                own[_key(row.get("parameters"))] = timing["speedup"]
        return found

    # ---- time ------------------------------------------------------------------------------

    def _wanted(self, run: Run, done: set[tuple[str, str]]) -> dict[str, set[str]]:
        """What the run is to make, by stage, as far as that is known by now."""
        wanted = {stage: set(run.jobs.get(stage, ())) for stage in STAGES}
        to_search = wanted["search"]
        for slug in run.jobs.get(jobs.FEASIBLE, ()):
            if slug in to_search and ("search", slug) not in done:
                continue
            scripts = self._files.get(self.store / jobs.FEASIBLE / f"{slug}.txt", _lines)
            if scripts is not None:
                wanted["code"].update(scripts)
                if not scripts:
                    wanted["verify"].discard(slug)
        return wanted

    def _left(
        self,
        run: Run,
        every: Sequence[Job],
        rest: Mapping[str, Sequence[str]],
        alive: Sequence[Job],
        now: float,
    ) -> Left:
        """What is left of each stage, by what the like took here and by what it may take, over how
        many jobs there are at once."""
        took = {stage: self._took(stage, every) for stage in STAGES}
        since = {(job.stage, job.name): now - job.started for job in alive}
        chains: dict[str, float] = {}
        total, unknown = 0.0, []
        for stage in STAGES:
            for name in rest[stage]:
                expected = _expected(_like(name, took[stage]), run.budgets.get(stage))
                if expected is None:
                    unknown.append(stage)
                    continue
                spent = since.get((stage, name), 0.0)
                if stage not in run.budgets:
                    spent = max(spent, self._spent(run, stage, name))
                seconds = max(expected - spent, 0.05 * expected)
                total += seconds
                slug = name if stage != "code" else stage
                chains[slug] = chains.get(slug, 0.0) + seconds
        if not chains:
            return Left(None if unknown else 0.0, tuple(dict.fromkeys(unknown)))
        at_once = run.at_once or _at_once(run, every, now)
        seconds = max(total / at_once, *chains.values())
        return Left(seconds, tuple(dict.fromkeys(unknown)))

    def _took(self, stage: str, every: Sequence[Job]) -> dict[str, float]:
        """Seconds that jobs of a stage took, by name. A search that found most of it in its
        journals counts with the time that measuring took once."""
        took = {}
        for job in every:
            if job.stage == stage and job.status == "done" and job.ended is not None:
                took[job.name] = job.ended - job.started
                if stage == "search":
                    path = self.store / "search" / f"{job.name}.json"
                    found = self._files.get(path, lambda path: _searched(path.stem, path))
                    took[job.name] = max(took[job.name], found.seconds if found else 0.0)
        return took

    def _spent(self, run: Run, stage: str, name: str) -> float:
        """Seconds of a search that its journals have already."""
        if stage != "search" or name not in run.configurations:
            return 0.0
        digest = self._files.get(self.store / "baseline" / f"{name}.json", _digest)
        rows = (
            row
            for names in (
                *run.configurations[name],
                *([run.fewer_steps] if run.fewer_steps else []),
            )
            for row in self._evaluations(name, tuple(names), digest).values()
        )
        return sum(row["spent"] or 0.0 for row in rows)


def _configuration_of(name: str) -> Configuration:
    """Of a job; that of a model is not of a configuration, and has the model's name."""
    return Configuration.named(name) or Configuration(name, "", 0)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _digest(path: Path) -> str:
    found: str = read_fields(path)["digest"]
    return found


def _loss(run: Run, row: Mapping[str, Any]) -> float:
    loss: float = row["loss"] if run.loss_confidence == "point" else row["loss_interval"][1]
    return loss


def _searched(slug: str, path: Path) -> _Searched:
    """Raises KeyError, TypeError or RecordError where it is not the record of a search."""
    record = read_fields(path)
    fewer_steps = record["fewer_steps"]
    cells, every = [], record["cells"]
    for each in [*every, *([fewer_steps] if fewer_steps else [])]:
        names, bound = each["cell"]["accelerators"], each["bound"]
        title = combination(names).title
        best = Best(slug, title, bound["speedup"], bound["loss"]) if bound else None
        measured = each["measured"]
        beside = each is fewer_steps
        if not beside or names not in [cell["cell"]["accelerators"] for cell in every]:
            cells.append(CellProgress(title, measured, measured, best, True, beside))
    seconds = sum(each["seconds"] for each in [*every, *([fewer_steps] if fewer_steps else [])])
    return _Searched(tuple(cells), seconds)


def _killed(job: Job) -> Job:
    """A job that never said that it ended, and is not there any more."""
    silent = "it ended without a word: killed, or out of memory or of time"
    return Job(**{**vars(job), "status": "failed", "reason": silent})


def _stages(
    wanted: Mapping[str, set[str]],
    done: set[tuple[str, str]],
    alive: Sequence[Job],
    failed: Sequence[Job],
) -> Iterator[StageProgress]:
    for stage in STAGES:
        made = sum(own == stage for own, _ in done)
        names = wanted[stage] | {name for own, name in done if own == stage}
        if names:
            running = sum(job.stage == stage for job in alive)
            lost = sum(job.stage == stage for job in failed)
            yield StageProgress(stage, len(names), made, running, lost)


def _like(name: str, took: Mapping[str, float]) -> float | None:
    """Mean of what the most similar jobs took, or None where there is none."""
    for kind in LIKE:
        own = kind(_configuration_of(name))
        same = [seconds for other, seconds in took.items() if kind(_configuration_of(other)) == own]
        if same:
            return sum(same) / len(same)
    return None


def _expected(like: float | None, budget: float | None) -> float | None:
    """Seconds of a job, by what the like took and by what it may take."""
    return min((each for each in (like, budget) if each is not None), default=None)


def _at_once(run: Run, every: Sequence[Job], now: float) -> float:
    """How many jobs ran at once on average, since the first of this run began; idle time counts."""
    own = [job for job in every if job.run == run.id]
    if not own:
        return 1.0
    busy = sum(max(0.0, (job.ended or now) - job.started) for job in own)
    wall = max(1.0, now - min(job.started for job in own))
    return max(busy / wall, 0.1)


def platform(progress: Progress) -> str:
    """The hardware that a store is of."""
    return os.path.basename(os.path.abspath(progress.store))
