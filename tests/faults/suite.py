"""What a fault is tried on, and what must hold after it."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.recipes import scripts as code
from diffaccel.run import listing
from diffaccel.search.records import Search
from diffaccel.stages.records import Verification
from diffaccel.store.journal import Line, lines
from diffaccel.store.jsonio import digest, read_record
from tests.faults.chain import CONFIGURATION, Project, warm_up

SPREAD = 10.0
"""How many times as large or small a speedup may be when it is timed again, of one pair of calls of
a tenth of a second each on a shared machine."""

Row = tuple[str, str]
"""A line of a journal: the journal, and the measurement as JSON."""


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Args:
        injected: whether it hit: a run may end before it is killed.
        lost: rows that were measured before and are not there any more.
        wrong: what is not as in an undisturbed run, or was read though it is broken.
        said: what the product said of it, where that is a part of the promise.
    """

    injected: bool
    lost: int
    wrong: list[str]
    said: str = ""


@dataclass(frozen=True)
class Stage:
    """How far a run had come when a fault hits: journals up to a share of their lines, and the
    records that there were by then."""

    name: str
    records: tuple[str, ...]
    share: float


STAGES = (
    Stage("nothing", (), 0.0),
    Stage("baseline", ("models", "baseline"), 0.0),
    Stage("half", ("models", "baseline"), 0.5),
    Stage("measured", ("models", "baseline"), 1.0),
    Stage("searched", ("models", "baseline", "search"), 1.0),
)


@dataclass
class Bench:
    """An undisturbed run, and copies of it at every stage.

    Args:
        folder: where the copies are made.
        reference: a run to its end.
    """

    folder: Path
    reference: Project
    count: int = 0

    @classmethod
    def open(cls, folder: Path) -> Bench:
        """Makes the undisturbed run, after which this process has loaded what jobs need."""
        warm_up(folder / "warm")
        project = Project.make(folder / "reference")
        status = project.run()
        assert status == 0, project.output
        return cls(folder, project)

    def project(self, stage: Stage | None = None) -> Project:
        """A project of its own; without a stage, one that is done."""
        self.count += 1
        done = self.reference.results
        project = Project.make(self.folder / f"p{self.count}")
        if stage is None:
            shutil.copytree(done, project.results, symlinks=True)
            return project
        for name in stage.records:
            shutil.copytree(done / name, project.results / name)
        evaluated: set[str] = set()
        journals = done / "journal"
        for path in (*journals.glob("evaluations/*.jsonl"), *journals.glob("timed/*.jsonl")):
            found = [line for line in lines(path) if isinstance(line, Line)]
            if path.parent.name == "evaluations":
                found = found[: math.ceil(stage.share * len(found))]
                evaluated.update(map(_parameters, found))
            # What was not evaluated was not timed either.
            kept = [line.text + b"\n" for line in found if _parameters(line) in evaluated]
            if evaluated:
                copy = project.results / path.relative_to(done)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(b"".join(kept))
        return project


@dataclass
class Case:
    """One fault, being tried.

    Args:
        short: where little is left to be measured, which takes less time.
    """

    bench: Bench
    rng: random.Random
    short: bool = False
    project: Project = field(init=False)

    def at(self, *names: str) -> Project:
        """A project at one of these stages, or at any."""
        stages = [stage for stage in STAGES if not names or stage.name in names]
        late = [stage for stage in stages if stage.name != "searched"][-1:]
        self.project = self.bench.project(self.rng.choice(late if self.short else stages))
        return self.project

    def done(self) -> Project:
        """A project that is done."""
        self.project = self.bench.project()
        return self.project

    def after(
        self,
        kept: set[Row],
        *,
        injected: bool = True,
        failed: tuple[str, ...] = (),
        torn: int = 0,
        says: str = "",
        near: bool = False,
    ) -> Outcome:
        """The next run, and what must hold after it.

        Args:
            kept: rows that were there before and must be there after.
            injected: whether the fault hit.
            failed: candidates, by digest, that cannot be measured, and are a loss.
            torn: lines of journals that the fault left torn.
            says: what must have been said.
            near: compare scores nearly: other batches round otherwise.
        """
        status = self.project.run()
        if status != 0:
            tail = self.project.output[-600:]
            return Outcome(injected, 0, [f"the next run ended with {status}: {tail}"])
        found = set(rows(self.project))
        wrong = list(differences(self.bench.reference, self.project, failed, near=near))
        wrong += unsound(self.project, torn)
        if says and says not in self.project.output:
            wrong.append(f"nothing said of {says!r}: {self.project.output[-600:]}")
        return Outcome(injected, len(kept - found), wrong, says)


def _parameters(line: Line) -> str:
    """Digest of what was measured; empty where a line says of what the others are."""
    if line.measurement is None:
        return ""
    measured = line.measurement.get("row", line.measurement)
    return digest(measured["parameters"])


def rows(project: Project) -> Iterator[Row]:
    """All whole rows that were measured."""
    for path in listing.Store(project.results).journals:
        for line in lines(path):
            if isinstance(line, Line) and line.measurement is not None:
                yield path.name, json.dumps(line.measurement, sort_keys=True)


def differences(
    reference: Project, project: Project, failed: tuple[str, ...] = (), *, near: bool = False
) -> Iterator[str]:
    """In what the results are not those of an undisturbed run: what does not hang being timed is
    the same, and speedups are within `SPREAD`."""
    one, other = (
        read_record(Baseline, each.results / f"baseline/{CONFIGURATION}.json")
        for each in (reference, project)
    )
    for name in (
        "configuration",
        "fingerprint",
        "digest",
        "prompts",
        "scores",
        "image_digests",
        "pipeline",
    ):
        if not near and getattr(one, name) != getattr(other, name):
            yield f"baseline: {name}"
    evaluated, again = (_evaluated(each) for each in (reference, project))
    if evaluated.keys() != again.keys():
        yield f"evaluated: {len(again)} candidates and not {len(evaluated)}"
    for key in evaluated.keys() & again.keys():
        if key in failed:
            if again[key]["failure"] is None or again[key]["loss"] < EXPERIMENT_LIMIT:
                yield f"evaluated: {key} has not failed"
        elif again[key]["failure"] or not _alike(evaluated[key], again[key], near):
            yield f"evaluated: {again[key]['parameters']} has another loss or failed"
    found = read_record(Search, project.results / f"search/{CONFIGURATION}.json")
    (cell,) = found.cells
    timed = {digest(row["parameters"]): row["timing"]["speedup"] for row in _rows(project, "timed")}
    if timed.keys() != evaluated.keys() - set(failed):
        yield f"timed: {len(timed)} candidates"
    before = {digest(r["parameters"]): r["timing"]["speedup"] for r in _rows(reference, "timed")}
    for key, speedup in timed.items():
        if not 1 / SPREAD < speedup / before.get(key, speedup) < SPREAD:
            yield f"timed: {speedup:.2f}x, undisturbed {before[key]:.2f}x"
    chosen = [answer.chosen for answer in found.answers if answer.chosen]
    for row in (cell.bound, *cell.front, *chosen):
        yield from _sound(row, again, failed)
    if (cell.status, cell.measured, len(found.answers)) != ("measured", len(evaluated), 4):
        yield f"search: {cell.status}, {cell.measured} measured, {len(found.answers)} answers"
    verification = read_record(Verification, project.results / f"verify/{CONFIGURATION}.json")
    met = {answer.task.id for answer in found.answers if answer.status == "met"}
    if {result.id for result in verification.results} != met:
        yield "verify: other scripts than were met"
    for v in verification.results:
        if v.loss != v.reported_loss and not (near and abs(v.loss - v.reported_loss) < NEAR):
            yield f"verify: {v.id}: loss {v.loss}, promised {v.reported_loss}: {v.reason}"
    for name in met:
        answer = found.answer(name)
        assert answer is not None
        script = project.results / f"code/{name}.py"
        if script.read_text(encoding="utf-8") != code.script(answer, other):
            yield f"code: {name} is not its answer's"


EXPERIMENT_LIMIT = 0.5
NEAR = 0.01
"""By how much losses may differ where other batches round otherwise."""


def _rows(project: Project, kind: str) -> list[dict[str, Any]]:
    found = listing.Store(project.results).rows([kind])
    return [dict(row.measured) for row in found if row.measured.get("timing", True)]


def _evaluated(project: Project) -> dict[str, dict[str, Any]]:
    return {digest(row["parameters"]): row for row in _rows(project, "evaluations")}


def _alike(one: dict[str, Any], other: dict[str, Any], near: bool) -> bool:
    if near:
        return abs(float(one["loss"]) - float(other["loss"])) < NEAR
    return (one["loss"], one["scores"]) == (other["loss"], other["scores"])


def _sound(
    row: Measurement | None, evaluated: dict[str, dict[str, Any]], failed: tuple[str, ...]
) -> Iterator[str]:
    """What is promised was measured, and did not fail."""
    if row is None:
        yield "search: nothing was found"
    elif digest(row.parameters) in failed or row.failure is not None:
        yield f"search: {row.parameters} is promised, and failed"
    elif evaluated[digest(row.parameters)]["loss"] != row.loss or row.timing is None:
        yield f"search: {row.parameters} is not what was measured"


def unsound(project: Project, torn: int) -> list[str]:
    """What in the results is not as it was written, beyond lines that a fault tore."""
    broken = [line for line in listing.problems(project.results) if "left by a writer" not in line]
    return broken if len(broken) > torn else []


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether it became so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.005)
    return False
