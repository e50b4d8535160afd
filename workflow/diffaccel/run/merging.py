"""Putting the results of another machine into a store. What is there stays; what contradicts it is
said, and not taken over."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline, Timing
from diffaccel.experiment.grid import Configuration
from diffaccel.report.blind import records as blind
from diffaccel.run.listing import Store, platforms, scores_of
from diffaccel.run.stores import JOURNALS_BEFORE, KINDS, hold
from diffaccel.search import found
from diffaccel.stages import database
from diffaccel.store import journal
from diffaccel.store.journal import Line
from diffaccel.store.jsonio import READS, RecordError, parse, read_record

CHANCE = 0.0027
"""How often two timings of the same may contradict each other by chance: three standard errors,
were these known."""
NEAR = 0.03
"""Relative difference below which they never do: a machine is not always as warm."""


@dataclass
class Merged:
    """What merging did.

    Args:
        rows: how many were added, by journal.
        records: files that were copied.
        conflicts: what contradicts what is there, and was left out.
        unread: what could not be read, and was left out.
    """

    rows: dict[Path, int] = field(default_factory=dict)
    records: list[Path] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def merge(source: Path, into: Path) -> Merged:
    """Adds the stores of one folder of results to those of another, platform by platform.

    A configuration of which new rows came in is decided again by the next run.

    Raises:
        InputError: there is nothing to merge, the two are one, or a run writes to the second.
    """
    done = Merged()
    for theirs in platforms(source):
        if theirs.resolve() == source.resolve():
            raise InputError(f"{source} is one platform's; give the folder that it is in")
        own = into / theirs.name
        if own.resolve() == theirs.resolve():
            raise InputError(f"{source} and {into} are the same folder")
        with hold(own):
            _Merge(theirs, own, done).run()
    return done


@dataclass
class _Merge:
    """Of one platform."""

    theirs: Path
    own: Path
    done: Merged

    def run(self) -> None:
        for path in sorted((self.theirs / "baseline").glob("*.json")):
            self._configuration(path)
        self._copy_all("journal/baseline")
        self._copy_all("journal/images")
        changed = [path for path in Store(self.theirs).journals if self._journal(path)]
        if any(path.parent.name == found.FOLDER for path in changed):
            # What the records here say is then noted once more, and stays the newest.
            database.write(self.own)
        searched = [
            path.stem
            for path in changed
            if path.parent.name in ("evaluations", "timed", *JOURNALS_BEFORE)
        ]
        for baseline in (self.own / "baseline").glob("*.json"):
            configuration = Configuration.named(baseline.stem)
            model = configuration.model if configuration else baseline.stem
            if any(name == model or name.startswith(f"{baseline.stem}_") for name in searched):
                # Its search is then older than what it depends on, and is made again.
                os.utime(baseline)

    def _configuration(self, path: Path) -> None:
        """A baseline with the records that were made beside it, where there is none of it."""
        own = self.own / "baseline" / path.name
        try:
            theirs = read_record(Baseline, path)
            mine = read_record(Baseline, own) if own.exists() else None
        except RecordError as error:
            self.done.unread.append(str(error))
            return
        if mine is not None:
            self._compare(own, mine, theirs)
            return
        shutil.copytree(path.with_suffix(""), own.with_suffix(""), dirs_exist_ok=True)
        kinds = ("models", "search", "verify", "speed", "judge")
        names = {kind: path.name for kind in kinds} | {
            "models": f"{theirs.configuration.model}.json"
        }
        # The baseline first: what was made beside it is not older.
        self._copy("baseline", path.name)
        for kind in kinds:
            self._copy(kind, names[kind])

    def _copy_all(self, folder: str) -> None:
        """The files of a folder that are not here."""
        for file in sorted((self.theirs / folder).rglob("*.*")):
            target = self.own / file.relative_to(self.theirs)
            if file.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)

    def _copy(self, kind: str, name: str) -> None:
        source, target = self.theirs / kind / name, self.own / kind / name
        if not source.exists() or target.exists():
            return
        try:
            read_record(KINDS[kind], source)
        except RecordError as error:
            self.done.unread.append(str(error))
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.part")
        shutil.copyfile(source, part)
        part.replace(target)
        self.done.records.append(target)

    def _compare(self, own: Path, mine: Baseline, theirs: Baseline) -> None:
        names = [
            name
            for name in mine.fingerprint | theirs.fingerprint
            if mine.fingerprint.get(name) != theirs.fingerprint.get(name)
        ]
        if names:
            self.done.conflicts.append(
                f"{own}: theirs was measured with another {' and another '.join(names)}; what was "
                "measured beside it is kept in the journals, and not used"
            )
        elif mine.image_digests != theirs.image_digests or any(
            mine.scores[name] != theirs.scores[name] for name in mine.scores.keys() & theirs.scores
        ):
            self.done.conflicts.append(f"{own}: theirs has other images or scores of the same")

    def _journal(self, path: Path) -> int:
        """Adds the rows that are new; how many."""
        kind = JOURNALS_BEFORE.get(path.parent.name, path.parent.name)
        own = self.own / "journal" / kind / path.name
        known = [line for line in journal.lines(own) if isinstance(line, Line)]
        texts = {line.text for line in known}
        by_key: dict[str, list[Line]] = {}
        for each in known:
            by_key.setdefault(_key(each), []).append(each)
        added: list[Line] = []
        for line in journal.lines(path):
            if not isinstance(line, Line):
                self.done.unread.append(f"{path}:{line[0]}: {line[1]}")
            elif line.text in texts:
                continue
            elif line.schema not in READS:
                self.done.unread.append(f"{path}:{line.number}: schema {line.schema}")
            elif path.parent.name in (found.FOLDER, blind.FOLDER):
                added.append(line)
            else:
                same = by_key.get(_key(line), []) if line.measurement else []
                if reason := next(filter(None, (_against(each, line) for each in same)), None):
                    self.done.conflicts.append(f"{path}:{line.number}: {reason}")
                elif not same or _goes_on(same[-1], line):
                    added.append(line)
        if added:
            journal.append(own, [line.text for line in added])
            self.done.rows[own] = sum(line.measurement is not None for line in added)
        return self.done.rows.get(own, 0)


def _measured(line: Line) -> Mapping[str, Any]:
    assert line.measurement is not None
    found: Mapping[str, Any] = line.measurement.get("row", line.measurement)
    return found


def _key(line: Line) -> str:
    """What a row is a measurement of."""
    if line.measurement is None:
        return line.digest
    row = _measured(line)
    beside = line.measurement.get("baseline", "")
    what = [row.get(name) for name in ("parameters", "id")]
    what.append(line.measurement.get("script") or row.get("script"))
    what.append(line.measurement.get("batch_size"))
    return json.dumps([line.digest, beside, what], sort_keys=True)


def _against(mine: Line, theirs: Line) -> str | None:
    """In what two measurements of the same contradict each other, or None."""
    one, other = _measured(mine), _measured(theirs)
    what = json.dumps(one.get("parameters") or one.get("id"), sort_keys=True)
    if one.get("failure") != other.get("failure"):
        failures = [each.get("failure") or "it works" for each in (one, other)]
        return f"{what}: here: {failures[0]}; there: {failures[1]}"
    for name, values in scores_of(one).items():
        rest = scores_of(other).get(name, [])
        if any(a != b for a, b in zip(values, rest, strict=False)):
            return f"{what}: other {name} of the same images"
    first, second = (
        parse(Timing, each["timing"], "timing") if each.get("timing") else None
        for each in (one, other)
    )
    if first and second and contradict(first, second):
        return f"{what}: {first.speedup:.2f}x here, {second.speedup:.2f}x there"
    return None


def contradict(one: Timing, other: Timing) -> bool:
    """Whether two timings cannot be of the same speedup. One pair alone contradicts nothing.

    Source: Welch, "The Generalization of Student's Problem when Several Different Population
    Variances are Involved", Biometrika 34, 1947.
    """
    from scipy.special import stdtrit

    off = abs(math.log(one.speedup / other.speedup))
    squares = [one.error**2, other.error**2]
    if off <= NEAR or math.inf in squares:
        return False
    known = [square**2 / each.freedom for square, each in zip(squares, (one, other), strict=True)]
    if not any(known):  # all pairs of both are the same
        return True
    quantile = float(stdtrit(sum(squares) ** 2 / sum(known), 1 - CHANCE / 2))
    return off > quantile * math.sqrt(sum(squares))


def _goes_on(mine: Line, theirs: Line) -> bool:
    """Whether the same was evaluated with more prompts there."""
    counts = [
        min(map(len, scores_of(_measured(line)).values()), default=0) for line in (mine, theirs)
    ]
    return counts[1] > counts[0]
