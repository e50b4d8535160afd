"""Gathering the records of cells and tasks into the files that users read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from os import PathLike as OsPathLike
from pathlib import Path
from typing import Any

import pandas as pd

from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.recipes import scripts as code
from diffaccel.search.answers import resolved, unparsed
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.stages import database, serving
from diffaccel.stages.records import ScriptResult, Served, Verification
from diffaccel.store.jsonio import (
    SCHEMA,
    RecordError,
    dumps,
    read_record,
    to_json,
    write_output,
    write_record,
)

log = logging.getLogger(__name__)

PathLike = str | OsPathLike[str]


def load(searches: Iterable[PathLike]) -> list[Search]:
    """Everything that was found, by configuration."""
    return [read_record(Search, Path(path)) for path in searches]


def overview(results: Path) -> tuple[list[Search], pd.DataFrame]:
    """Everything that was found on a platform, by configuration, and the table over it."""
    found = load(sorted(results.glob("search/*.json")))
    return found, summary(found, sorted(results.glob("verify/*.json")))


def readable(results: PathLike) -> list[Search]:
    """Everything that was searched on a platform, by this experiment or before; but records that
    are broken or of another version."""
    found = []
    for path in sorted(Path(results).glob("search/*.json")):
        try:
            found.append(read_record(Search, path))
        except RecordError as error:
            log.warning("left out: %s", error)
    return found


def cells(found: Iterable[Search]) -> list[CellResult]:
    """The cells of all configurations."""
    return [cell for search in found for cell in search.cells]


def answers(found: Iterable[Search]) -> list[Answer]:
    """The answers of all configurations."""
    return [answer for search in found for answer in search.answers]


def tasks(made: Iterable[Task], found: Iterable[Search], out: PathLike) -> int:
    """`tasks.json`: the tasks made from the bounds, then the user's own; not those of cells that
    were not searched. How many there are."""
    known = {record.cell: record for record in cells(found)}
    there = (task for task in made if task.cell is None or task.cell in known)
    listed = [resolved(task, known[task.cell]) if task.cell else task for task in there]
    kept = [task for task in listed if task.required is not None or task.origin == "user"]
    whole = {"schema": SCHEMA, "tasks": [to_json(task) for task in kept]}
    write_output(Path(out), dumps(whole))
    return len(kept)


def ask(made: Iterable[Task], searches: Iterable[PathLike], out: PathLike, results: str) -> None:
    """`tasks.json`, and no script of a task that is not met any more."""
    keep_scripts(Path(results))
    tasks(made, load(searches), out)


def misunderstood(made: Iterable[Task], out: PathLike) -> None:
    """The answers to the sentences that were not understood."""
    write_record(Path(out), Search(None, [], [unparsed(task) for task in made]))


def feasible(search: PathLike, out: PathLike) -> None:
    """The ids of those tasks of a configuration that were met, and have a script; one a line."""
    met = [each.task.id for each in answers(load([search])) if each.status == "met"]
    write_output(Path(out), "".join(f"{name}\n" for name in met))


def keep_scripts(results: Path) -> None:
    """Removes the scripts of tasks that no record of a search answers any more, or not with yes."""
    try:
        every = load(sorted(results.glob("search/*.json")))
    except RecordError as error:
        log.warning("no script is removed, since nobody knows which are of this: %s", error)
        return
    met = [each.task.id for each in answers(every) if each.status == "met"]
    code.keep_only(results / "code", met)


def summary(found: Sequence[Search], verifications: Iterable[PathLike]) -> pd.DataFrame:
    """One row a task, with its cell's bound; what is missing is empty."""
    known = {record.cell: record for record in cells(found)}
    verified = {
        result.id: (result, verification.own(result.script))
        for verification in (read_record(Verification, Path(path)) for path in verifications)
        for result in verification.results
    }
    return pd.DataFrame(
        [
            _row(answer, known, *verified.get(answer.task.id, (None, None)))
            for answer in answers(found)
        ]
    )


def _row(
    found: Answer,
    known: dict[Cell, CellResult],
    result: ScriptResult | None,
    served: Served | None,
) -> dict[str, Any]:
    task, cell = found.task, found.task.cell
    record = known.get(cell) if cell else None
    options = record.search.under(task.limits) if record else None
    row: dict[str, Any] = {
        "id": task.id,
        "origin": task.origin,
        "model": cell.configuration.model if cell else None,
        "scheduler": cell.configuration.scheduler if cell else None,
        "steps": cell.configuration.steps if cell else None,
        "accelerators": combination(cell.accelerators).title if cell else None,
        "required": task.required,
        "max_seconds_per_image": task.latency_s,
        "max_loss": task.max_loss,
        "limits": "; ".join(each.words for each in options.limits) if options else "",
        "status": found.status,
        "reason": found.reason,
        "sentence": task.sentence,
    }
    best = record.bound if record else None
    row["bound"] = best.speedup if best else None
    row["clear"] = found.clear if record else None
    row["bound_clear"] = record.clear if record and best else None
    row["time_up"] = record.time_up if record else None
    own = found.chosen
    row["decided_by"] = options.deciding(own, task.max_loss) if options and own else None
    chosen = (("bound_", best), ("", found.chosen), ("nearest_", found.nearest))
    for prefix, measured in chosen:
        row[f"{prefix}speedup"] = measured.speedup if measured else None
        timing = measured.timing if measured else None
        row[f"{prefix}speedup_error"] = timing.error if timing else None
        row[f"{prefix}loss"] = measured.loss if measured else None
        row[f"{prefix}loss_low"] = measured.loss_interval[0] if measured else None
        row[f"{prefix}loss_high"] = measured.loss_interval[1] if measured else None
        row[f"{prefix}prompts"] = measured.prompts if measured else None
        row[f"{prefix}parameters"] = in_words(measured.parameters) if measured else ""
    compared = (("bound_", record.fewer_steps if record else None), ("", found.fewer_steps))
    for prefix, fewer_steps in compared:
        row[f"{prefix}fewer_steps_speedup"] = fewer_steps.speedup if fewer_steps else None
        row[f"{prefix}fewer_steps_loss"] = fewer_steps.loss if fewer_steps else None
        row[f"{prefix}fewer_steps_parameters"] = (
            in_words(fewer_steps.parameters) if fewer_steps else ""
        )
        row[f"{prefix}beaten"] = fewer_steps.beats if fewer_steps else None
    row["verified"] = result.outcome if result else None
    row["kept"] = result.kept if result else None
    row["verified_speedup"] = result.speedup if result else None
    row["verified_loss"] = result.loss if result else None
    row["verification"] = result.reason if result else None
    other = result.heldout if result else None
    row["heldout"] = other.ok if other else None
    row["heldout_loss"] = other.loss if other else None
    row["heldout_loss_low"] = other.loss_interval[0] if other else None
    row["heldout_loss_high"] = other.loss_interval[1] if other else None
    return row | serving.columns(served)


def write_summary(
    found: Sequence[Search], verifications: Iterable[PathLike], out: PathLike
) -> None:
    """`summary.csv`: the table of `summary`, numbers to four decimals."""
    table = summary(found, verifications)
    write_output(Path(out), table.to_csv(index=False, float_format="%.4f"))


def write_serving(verifications: Iterable[PathLike], out: PathLike) -> None:
    """`serving.csv`: the table of `serving.table`, numbers to four digits."""
    table = serving.table(read_record(Verification, Path(path)) for path in verifications)
    write_output(Path(out), table.to_csv(index=False, float_format="%.4g"))


def gather(configurations: Collection[Configuration], made: Iterable[Task], results: Path) -> None:
    """Writes the files over all configurations of an experiment, of those configurations that there
    are: what the rules do when none is missing."""
    known = readable(results)
    own = [
        search
        for search in known
        if search.configuration is None or search.configuration in configurations
    ]
    if not own:
        return
    database.write(results)
    tasks(made, own, results / "tasks" / "tasks.json")
    every = (
        results / "verify" / f"{each.configuration.slug}.json" for each in own if each.configuration
    )
    verifications = [path for path in every if path.exists()]
    write_summary(own, verifications, results / "summary.csv")
    write_serving(verifications, results / "serving.csv")
