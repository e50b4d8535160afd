"""Verifying the generated scripts: each is loaded, run, and measured again.

It is measured on the prompts that it was found with, to see that it is what was measured, and timed
until it is clear whether it is as fast as was asked, and as it was measured; and its loss once more
on prompts and seeds that it was not chosen by, to see whether that was luck. Scripts of the same
code, whose tasks were answered with the same parameters, are measured once: each has its own
verdict on that.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import logging
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from diffaccel.errors import InputError
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.failures import failure_of
from diffaccel.evaluation.measure import (
    Bench,
    Candidate,
    Generate,
    MeasureError,
    check_baseline,
    crashed,
    evaluate,
    timed_together,
)
from diffaccel.evaluation.pairs import Goal, timing_of
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement, Timing
from diffaccel.evaluation.sequential import doubling
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.prompts import read_unseen
from diffaccel.experiment.tasks import Task
from diffaccel.machine import devices
from diffaccel.machine.watch import Watch
from diffaccel.plugins.metrics.base import Images
from diffaccel.search.measuring import call_seconds
from diffaccel.search.records import Answer, Search
from diffaccel.stages import serving
from diffaccel.stages.records import HeldOut, Outcome, ScriptResult, Verification, VerifiedScript
from diffaccel.stages.serving import Serving
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest
from diffaccel.store.source import meaning

log = logging.getLogger(__name__)

TOGETHER = 8
"""Scripts at most that are timed in the same rounds; each has its own pipeline in memory."""


@dataclass(frozen=True)
class Script:
    """A script and what it was made from.

    Args:
        asked: how fast its task asks it to be.
        promised: how fast it was when it was found; at least as fast as asked.
        digest: of what it does, and of the prompts that it is verified on: scripts of the same
            parameters share what is measured, whatever was asked of them.
    """

    path: Path
    answer: Answer
    chosen: Measurement
    asked: Goal
    reported: Goal
    digest: str

    @classmethod
    def read(
        cls, path: Path, found: Search, baseline: Baseline, max_pairs: int, heldout: Sequence[str]
    ) -> Script:
        answer = found.answer(path.stem)
        if answer is None or answer.chosen is None:
            raise MeasureError(f"{path}: the task was not met, so there is nothing to verify")
        does = _meaning(path.read_text(encoding="utf-8"))
        prompts = baseline.prompts[: answer.chosen.prompts]
        asked = goal_of(answer.task, baseline, max_pairs)
        reported = replace(asked, speedup=answer.chosen.speedup, seconds_per_image=None)
        pairs = baseline.options.pairs
        found_by = digest([does, prompts, list(heldout), pairs])
        return cls(path, answer, answer.chosen, asked, reported, found_by)

    @property
    def goals(self) -> tuple[Goal, Goal]:
        return self.asked, self.reported


def _meaning(source: str) -> str:
    try:
        return meaning(ast.parse(source))
    except SyntaxError:
        return source


def run(
    found: Search,
    baseline: Baseline,
    images: Path,
    scripts: Sequence[Path],
    journal: Path,
    max_pairs: int,
    heldout: int = 0,
    watch: Watch | None = None,
    budget: Budget | None = None,
    asked: Serving | None = None,
) -> Verification:
    """Measures the scripts of a configuration against the baseline pipeline, by the same rules as
    the search did. What the journal has of a script that does the same is not measured again,
    unless that does not tell whether this one is fast enough, and may be timed longer.

    Args:
        scripts: generated files, each named by its task.
        max_pairs: timed pairs at most, while they do not tell whether one is fast enough.
        heldout: how many prompts they are verified on besides, fewer where there are no more.
        watch: who is told of calls, if anybody.
        budget: how long; what is not clear then stays undecided.
        asked: what is measured besides of those that are not wrong.

    Raises:
        InputError: a script's task was not met, the baseline was measured otherwise than now, or
            the prompts cannot be read.
    """
    spec = baseline.spec
    unseen = read_unseen(Path(spec.heldout or spec.prompts), heldout, baseline.prompts)
    if len(unseen) < heldout:
        log.warning("%d held-out prompts, not %d: there are no more", len(unseen), heldout)
    budget = budget or Budget()
    rows = Journal(journal, baseline.digest, VerifiedScript, baseline.provenance())
    known: dict[str, VerifiedScript] = {}
    for row in rows.rows():
        if row.row.passing is None:
            known[row.script] = _together(known.get(row.script), row)
    read = [Script.read(path, found, baseline, max_pairs, unseen) for path in scripts]
    groups: dict[str, list[Script]] = {}
    for script in read:
        groups.setdefault(script.digest, []).append(script)
    left = [same for name, same in groups.items() if _is_open(same, known.get(name))]
    together = min(TOGETHER, baseline.spec.jobs_per_gpu)
    options = found.cells[0].search
    with contextlib.ExitStack() as stack:
        limit = call_seconds(baseline, options)
        verifier = Verifier(stack, baseline, images, unseen, (watch or Watch()).within(limit))
        for start in range(0, len(left), together):
            some = left[start : start + together]
            with budget.until((start + len(some)) / len(left)):
                measured = verifier.measure(some, budget)
            for verified in measured:
                rows.append(verified)
                known[verified.script] = _together(known.get(verified.script), verified)
                for script in groups[verified.script]:
                    _say(_verdict(script, known[verified.script], baseline, options))
        runs = {name: each.row for name, each in known.items() if each.row.failure is None}
        good = [same for name, same in groups.items() if name in runs]
        served = serving.serve(verifier, good, runs, asked or Serving(), journal)
    verdicts = [_verdict(script, known[script.digest], baseline, options) for script in read]
    return Verification(baseline.configuration, verdicts, unseen, served, baseline.images_per_call)


def _is_open(same: Sequence[Script], known: VerifiedScript | None) -> bool:
    """Whether measuring may tell more than is known of scripts of the same code."""
    if known is None or known.row.timing is None:
        return known is None
    pairs = known.row.timing.pairs
    return any(
        goal.reached(pairs) is None and len(pairs) < goal.analyses[-1]
        for script in same
        for goal in script.goals
    )


def _together(before: VerifiedScript | None, again: VerifiedScript) -> VerifiedScript:
    """What was measured of a script twice: the pairs of both."""
    if before is None or before.row.timing is None:
        return again
    if again.row.timing is None:
        return again if again.row.passing is None else before
    timing = timing_of([*before.row.timing.pairs, *again.row.timing.pairs])
    timing = replace(timing, gpu=again.row.timing.gpu)
    return replace(again, row=replace(again.row, timing=timing, speedup=timing.speedup))


class Verifier:
    """Loads scripts and measures them. Device and metrics are taken with the first, and kept
    until the stack is closed.

    Args:
        unseen: prompts that nothing was chosen by; none: nothing is evaluated from such.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        baseline: Baseline,
        images: Path,
        unseen: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> None:
        self._stack, self.baseline, self._folder = stack, baseline, images
        self._unseen_prompts, self._watch = list(unseen), watch or Watch()
        self._bench: Bench | None = None

    @functools.cached_property
    def _device(self) -> devices.Device:
        platform = self.baseline.environment.platform
        return benches.take_device(self._stack, self.baseline.spec, platform)

    @functools.cached_property
    def _references(self) -> Images:
        return benches.load_images(self._folder, self.baseline)

    @functools.cached_property
    def _unseen(self) -> tuple[Bench, Baseline, Images] | None:
        """The baseline pipeline on the prompts that nothing was chosen by, with the seeds that
        follow those of the search; None where that cannot carry a loss."""
        if self._bench is None or not self._unseen_prompts:
            return None
        known, seed = self.baseline, self._bench.options.seed + len(self.baseline.prompts)
        options = replace(self._bench.options, seed=seed)
        bench = replace(self._bench, prompts=self._unseen_prompts, options=options)
        record, images = benches.run_baseline(bench)
        if (reason := check_baseline(record)) is not None:
            log.warning("%s: no held-out check: %s", known.configuration.slug, reason)
            return None
        return bench, record, images

    def measure(self, groups: Sequence[Sequence[Script]], budget: Budget) -> list[VerifiedScript]:
        """The first script of each group, measured in the same rounds, and evaluated from unseen
        prompts; of one that cannot be loaded, why."""
        device, loaded, failed = self._device, [], {}
        for same in groups:
            script = same[0]
            try:
                loaded.append((script, *self.load(same)))
            except InputError:
                raise
            except Exception as error:
                log.exception("%s", script.path)
                parameters = script.chosen.parameters
                failure = failure_of(error, device, self._watch, digest(parameters))
                failed[script.digest] = VerifiedScript(script.digest, crashed(parameters, failure))
        rows = {row.script: row for row in self._measured(loaded, budget)} | failed
        return [rows[same[0].digest] for same in groups]

    def load(self, same: Sequence[Script]) -> tuple[Bench, Candidate]:
        """A script's own pipeline, and the script as it is called."""
        baseline, device, script = self.baseline, self._device, same[0]
        module = load_script(script.path)
        with device.shared():
            pipe = module.load_pipeline(device=device.name)
        if self._bench is None:
            self._bench = benches.open_bench(
                baseline.configuration,
                baseline.spec,
                baseline.options,
                device,
                pipe=pipe,
                watch=self._watch,
            )
        pipe.set_progress_bar_config(disable=True)
        own = replace(self._bench, pipe=pipe)
        benches.check_same(own, baseline)

        @contextlib.contextmanager
        def applied() -> Iterator[Generate]:
            yield lambda prompts, seeds: module.generate(pipe, prompts, seeds)

        goals = tuple(dict.fromkeys(goal for each in same for goal in each.goals))
        chosen = script.chosen
        return own, Candidate(chosen.parameters, applied, prompts=chosen.prompts, goals=goals)

    def _measured(
        self, loaded: Sequence[tuple[Script, Bench, Candidate]], budget: Budget
    ) -> list[VerifiedScript]:
        """The baseline of the pairs is the first script's pipeline, outside of what the script puts
        on. Pairs come last, as many as there is time for."""
        if not loaded:
            return []
        own, candidates = loaded[0][1], [candidate for _, _, candidate in loaded]
        references = self._references
        evaluated = [evaluate(own, self.baseline, references, each) for each in candidates]
        others = [
            None if made.failure else self._evaluated_unseen(each)
            for each, made in zip(candidates, evaluated, strict=True)
        ]
        rows = timed_together(own, candidates, evaluated, references, budget)
        return [
            VerifiedScript(script.digest, row, None if row.failure else other)
            for (script, _, _), row, other in zip(loaded, rows, others, strict=True)
        ]

    def _evaluated_unseen(self, candidate: Candidate) -> Evaluation | None:
        if self._unseen is None:
            return None
        bench, baseline, images = self._unseen
        return evaluate(bench, baseline, images, replace(candidate, prompts=None))


def _say(result: ScriptResult) -> None:
    other, reason = result.heldout, result.reason
    fast = f"{result.speedup:.2f}x (required {result.required}x)"
    if result.max_seconds_per_image is not None and result.seconds_per_image is not None:
        seconds = f"{result.seconds_per_image:.3g} s an image"
        fast = f"{seconds} (required {result.max_seconds_per_image} s)"
    log.info(
        "%s: %s, loss %+.4f%s: as asked: %s, as found: %s%s",
        result.id,
        fast,
        result.loss,
        f", held out {other.loss:+.4f}" if other else "",
        result.outcome,
        result.kept,
        f" ({reason})" if reason else "",
    )


def goal_of(task: Task, baseline: Baseline, max_pairs: int) -> Goal:
    """How fast the script of a task must be. A latency is one of seconds, whatever the plain
    pipeline takes meanwhile."""
    options, latency = baseline.options, task.latency_s
    return Goal(
        analyses=doubling(options.pairs, options.max_pairs, max_pairs),
        confidence=options.confidence,
        speedup=task.required if latency is None else None,
        seconds_per_image=latency,
        images=baseline.images_per_call,
    )


def load_script(script: Path) -> ModuleType:
    """A generated script as a module; its command line does not run."""
    spec = importlib.util.spec_from_file_location("generated_script", script)
    if spec is None or spec.loader is None:
        raise MeasureError(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lossy(measured: Evaluation, max_loss: float, options: SearchOptions) -> str | None:
    """What is wrong with a loss, or None."""
    if (loss := options.decisive(measured)) < max_loss:
        return None
    end = "" if loss == measured.loss else "upper end of the "
    return f"{end}loss {loss:.4f}, limit {max_loss}"


def _held_out(evaluation: Evaluation, max_loss: float, options: SearchOptions) -> HeldOut:
    reason = evaluation.failure or _lossy(evaluation, max_loss, options)
    return HeldOut(
        ok=reason is None,
        reason=reason or "",
        loss=evaluation.loss,
        loss_interval=evaluation.loss_interval,
        scores=evaluation.scores,
    )


def _seconds(timing: Timing | None, baseline: Baseline) -> float | None:
    """Of an image."""
    return statistics.median(timing.accelerated) / baseline.images_per_call if timing else None


def _outcome(
    script: Script, goal: Goal, again: Measurement, baseline: Baseline, options: SearchOptions
) -> tuple[Outcome, str]:
    """What is to be said of a script that must be so fast, and why."""
    timing = again.timing
    if again.passing is not None:
        return "undecided", f"{again.passing}: the next run tries it again"
    if again.failure is not None or timing is None:
        return "not met", again.failure or "it was not timed"
    if goal.seconds_per_image is not None:
        seconds = _seconds(timing, baseline)
        speed = f"{seconds:.3g} s an image, required {goal.seconds_per_image} s"
    elif goal is script.reported:
        speed = f"speedup {again.speedup:.2f}x, {goal.speedup:.2f}x when it was found"
    else:
        speed = f"speedup {again.speedup:.2f}x, required {goal.speedup}x"
    reached = goal.reached(timing.pairs)
    problems = [speed] if reached is False else []
    if (lossy := _lossy(again, script.answer.task.max_loss, options)) is not None:
        problems.append(lossy)
    if problems:
        return "not met", "; ".join(problems)
    if reached is None:
        return "undecided", f"{speed}: the timing does not tell after {len(timing.pairs)} pairs"
    return "met", ""


def _verdict(
    script: Script, known: VerifiedScript, baseline: Baseline, options: SearchOptions
) -> ScriptResult:
    again, other = known.row, known.heldout
    task, chosen = script.answer.task, script.chosen
    if task.required is None:
        raise MeasureError(f"task {task.id} was not met, so there is nothing to verify")
    outcome, reason = _outcome(script, script.asked, again, baseline, options)
    kept, less = _outcome(script, script.reported, again, baseline, options)
    same = again.scores == chosen.scores if again.scores and chosen.scores else None
    return ScriptResult(
        id=task.id,
        script=script.digest,
        outcome=outcome,
        kept=kept,
        confidence=script.asked.confidence,
        reason=reason or less,
        required=task.required,
        max_seconds_per_image=task.latency_s,
        max_loss=task.max_loss,
        reported_speedup=chosen.speedup,
        reported_loss=chosen.loss,
        speedup=again.speedup,
        seconds_per_image=_seconds(again.timing, baseline),
        loss=again.loss,
        loss_interval=again.loss_interval,
        timing=again.timing,
        means=again.means,
        same_scores=same,
        date=again.date,
        heldout=None if other is None else _held_out(other, task.max_loss, options),
        passing=again.passing is not None,
    )
