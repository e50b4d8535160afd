"""Reads how far a run is from what is on disk: notes of it and its jobs, results and journals.

It is the same whoever reads it: the run's own terminal, another one, another node. Files are read
again only where they changed, and of journals what is new, so that reading each second costs next
to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from diffaccel.machine import jobs
from diffaccel.machine.jobs import STAGES, Job, Run
from diffaccel.run.cells import Cells, configuration_of
from diffaccel.run.files import Files, read_lines
from diffaccel.run.progress import Progress, StageProgress
from diffaccel.run.time_left import time_left
from diffaccel.store.jsonio import read_record


class Reader:
    """Reads how far the run in a store is, again and again.

    Args:
        store: ``results/<platform>``.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._files = Files()
        self._cells = Cells(store, self._files)

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
        configurations = {slug: self._cells.of(run, slug, own) for slug in run.configurations}
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
                and lost.isdisjoint((name, configuration_of(name).model))
            ]
            for stage, names in wanted.items()
        }
        left = time_left(run, every, rest, alive, now, self._cells) if going else None
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
            notes=tuple(self._files.get(self.store / jobs.NOTES, read_lines) or ()),
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

    def _wanted(self, run: Run, done: set[tuple[str, str]]) -> dict[str, set[str]]:
        """What the run is to make, by stage, as far as that is known by now."""
        wanted = {stage: set(run.jobs.get(stage, ())) for stage in STAGES}
        to_search = wanted["search"]
        for slug in run.jobs.get(jobs.FEASIBLE, ()):
            if slug in to_search and ("search", slug) not in done:
                continue
            scripts = self._files.get(self.store / jobs.FEASIBLE / f"{slug}.txt", read_lines)
            if scripts is not None:
                wanted["code"].update(scripts)
                if not scripts:
                    wanted["verify"].discard(slug)
        return wanted


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
