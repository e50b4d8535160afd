"""Verifying the generated scripts: each is loaded, run, and measured again.

It is measured on the prompts that it was found with, to see that it is what was measured, and timed
until it is clear whether it is as fast as was asked, and as it was measured; and its loss once more
on prompts and seeds that it was not chosen by, to see whether that was luck. Scripts of the same
code, whose tasks were answered with the same parameters, are measured once: each has its own
result of that (`diffaccel.stages.outcome`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation import keys, limits
from diffaccel.evaluation.baseline import run_baseline
from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.calls import Bench, Candidate, Generate
from diffaccel.evaluation.candidates import crashed, evaluate, timed_together
from diffaccel.evaluation.failures import failure_of
from diffaccel.evaluation.gallery import Gallery
from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.evaluation.scores import check_baseline
from diffaccel.experiment.inputs import heldout_of
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.prompts import Prompt, repeated
from diffaccel.machine import devices
from diffaccel.machine.watch import Watch
from diffaccel.plugins.metrics.base import Images
from diffaccel.search.measuring import call_seconds
from diffaccel.search.records import Search
from diffaccel.stages import serving
from diffaccel.stages.outcome import is_open, joined, result_of
from diffaccel.stages.records import ScriptResult, Verification, VerifiedScript
from diffaccel.stages.script import Script, load_script
from diffaccel.stages.serving import Serving
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest

log = logging.getLogger(__name__)

TOGETHER = 8
"""Scripts at most that are timed in the same rounds; each has its own pipeline in memory."""


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
        journal: ``journal/verify/<configuration>.jsonl``; images are kept in ``journal/images``.
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
    unseen = heldout_of(spec, heldout, baseline.prompts)
    if len(unseen) < heldout:
        log.warning("%d held-out prompts, not %d: there are no more", len(unseen), heldout)
    unseen = repeated(unseen, baseline.options.seeds)
    budget = budget or Budget()
    rows = Journal(
        journal,
        baseline.digest,
        VerifiedScript,
        baseline.provenance(),
        lambda verified: keys.of_metrics(baseline, verified.row),
    )
    known: dict[str, VerifiedScript] = {}
    for row in rows.rows():
        if row.row.passing is None:
            known[row.script] = joined(known.get(row.script), row)
    read = [Script.read(path, found, baseline, max_pairs, unseen) for path in scripts]
    groups: dict[str, list[Script]] = {}
    for script in read:
        groups.setdefault(script.digest, []).append(script)
    options = found.cells[0].search
    every = {script.path: options.under(script.limits).limits for script in read}
    left = [
        same
        for name, same in groups.items()
        if is_open(same, known.get(name), [each for s in same for each in every[s.path]])
    ]
    together = min(TOGETHER, baseline.spec.jobs_per_gpu)
    with contextlib.ExitStack() as stack:
        limit = call_seconds(baseline, options)
        watched = (watch or Watch()).within(limit)
        kept = list(dict.fromkeys(each for asked in every.values() for each in asked))
        gallery = Gallery.beside(journal.parents[1], baseline)
        verifier = Verifier(stack, baseline, images, unseen, watched, kept, gallery)
        for start in range(0, len(left), together):
            some = left[start : start + together]
            with budget.until((start + len(some)) / len(left)):
                measured = verifier.measure(some, budget)
            for verified in measured:
                rows.append(verified)
                known[verified.script] = joined(known.get(verified.script), verified)
                for script in groups[verified.script]:
                    _say(result_of(script, known[verified.script], baseline, options))
        runs = {name: each.row for name, each in known.items() if each.row.failure is None}
        good = [same for name, same in groups.items() if name in runs]
        served = serving.serve(verifier, good, runs, asked or Serving(), journal)
    results = [result_of(script, known[script.digest], baseline, options) for script in read]
    return Verification(baseline.configuration, results, unseen, served, baseline.images_per_call)


class Verifier:
    """Loads scripts and measures them. Device and metrics are taken with the first, and kept
    until the stack is closed.

    Args:
        unseen: prompts that nothing was chosen by; none: nothing is evaluated from such.
        asked: what must be kept beside the loss limit.
        gallery: gets some of the images of each script, if it is there.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        baseline: Baseline,
        images: Path,
        unseen: Sequence[Prompt] = (),
        watch: Watch | None = None,
        asked: Sequence[Limit] = (),
        gallery: Gallery | None = None,
    ) -> None:
        self._limits, self._gallery = asked, gallery
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
        spec = replace(known.spec, inputs=known.spec.heldout_inputs or known.spec.inputs)
        bench = replace(self._bench, prompts=self._unseen_prompts, options=options, spec=spec)
        record, images = run_baseline(bench)
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
            yield functools.partial(module.generate, pipe)

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
        evaluated = [self._evaluated(own, each) for each in candidates]
        others = [
            None if made.failure else self._evaluated_unseen(each)
            for each, made in zip(candidates, evaluated, strict=True)
        ]
        rows = timed_together(own, candidates, evaluated, references, budget)
        return [
            VerifiedScript(script.digest, row, None if row.failure else other)
            for (script, _, _), row, other in zip(loaded, rows, others, strict=True)
        ]

    def _evaluated(self, bench: Bench, candidate: Candidate) -> Evaluation:
        """A script on the prompts that it was found with. Some of its images are kept."""
        made: list[Images] = []
        found = evaluate(bench, self.baseline, self._references, candidate, keep=made.append)
        if self._gallery is not None and found.scores:
            (images,) = made
            self._gallery.keep_answer(self.baseline, found, images)
        return found

    def _evaluated_unseen(self, candidate: Candidate) -> Evaluation | None:
        if self._unseen is None:
            return None
        bench, baseline, images = self._unseen
        found = evaluate(bench, baseline, images, replace(candidate, prompts=None))
        return limits.with_used(found, baseline, self._limits)


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
