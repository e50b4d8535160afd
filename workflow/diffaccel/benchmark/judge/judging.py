"""Judging the scripts of a configuration, in three stages, each against the baseline pipeline of
our own: by their text, by their images, and by what was asked for. All that is timed is scored."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffaccel.benchmark.judge import sandbox
from diffaccel.benchmark.judge.generated import SLOWED, Generated, count_own, seeds_matter
from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration
from diffaccel.benchmark.judge.protocol import Disturbed, Failed
from diffaccel.benchmark.judge.records import Judged, Judgement, Outcome
from diffaccel.benchmark.judge.static import examine
from diffaccel.benchmark.judge.syntax import LONGEST
from diffaccel.benchmark.judge.trials import Trials
from diffaccel.errors import InputError
from diffaccel.evaluation.calls import MeasureError
from diffaccel.evaluation.pairs import TOLERANCE, timing_of
from diffaccel.evaluation.scores import check_scores, count_blank, loss_interval, loss_of
from diffaccel.experiment import tasks
from diffaccel.experiment.asked import Asked
from diffaccel.experiment.tasks import Category, Request
from diffaccel.plugins.metrics import SCORE, prepared
from diffaccel.plugins.metrics.base import Compute
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest, today

log = logging.getLogger(__name__)


def run(
    configuration: JudgeConfiguration, asked: Sequence[Asked], scripts: Path, journal: Path
) -> Judged:
    """Judges the scripts of a configuration. What the journal has of the same script and the same
    task is not judged again.

    Raises:
        SandboxError: no sandbox can be had, and none was not asked for.
        MeasureError: the baseline pipeline itself fails, or its score says nothing.
    """
    ran_in = sandbox.how(configuration.options.sandbox)
    rows = Journal(
        journal, digest([configuration.digest(), ran_in]), Judgement, configuration.provenance()
    )
    known = {row.id: row for row in rows.rows()}
    with contextlib.ExitStack() as stack:
        evaluator = Evaluator(configuration, ran_in, stack)
        for each in asked:
            source = read_script(scripts / f"{each.id}.py")
            before = known.get(each.id)
            if before is None or before.script != _digest(source, each):
                known[each.id] = said = evaluator.judge(each, source)
                if said.outcome not in ("skipped", "undecided"):  # another time it may be judged
                    rows.append(said)
                _say(said)
    return Judged(configuration.configuration, [known[each.id] for each in asked])


def read_script(path: Path) -> bytes:
    """The source of a script, as far as any is read; nothing of what is not a file itself: a link
    may lead to what is none of the script's business, and a pipe may never end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        return os.read(handle, LONGEST + 1) if regular else b""
    finally:
        os.close(handle)


def _digest(source: bytes, asked: Asked) -> str:
    return digest([source.hex(), asked.sentence])


def _say(said: Judgement) -> None:
    numbers = ""
    if said.speedup is not None and said.loss is not None:
        numbers = f" {said.speedup:.2f}x, loss {said.loss:+.4f}"
    reason = f": {said.reason}" if said.reason else ""
    log.info("%s: %s%s%s", said.id, said.outcome, numbers, reason)


class Evaluator:
    """Judges scripts one after the other, each by its text, its images, and its times.

    Args:
        ran_in: what scripts are run in, as `sandbox.how` says it.
        stack: at whose end all that was taken is given back.
    """

    def __init__(
        self, configuration: JudgeConfiguration, ran_in: str, stack: contextlib.ExitStack
    ) -> None:
        self._configuration, self._ran_in = configuration, ran_in
        self.trials = Trials(configuration, stack)

    def judge(self, asked: Asked, source: bytes) -> Judgement:
        """What is to be said of one script. Where that ends in an error of ours, the others go on.

        Raises:
            InputError: none can be judged.
        """
        said = self.begin(asked, source)
        try:
            return self._judged(said, source)
        except InputError:
            raise
        except Exception as error:
            log.exception("%s", asked.id)
            reason = f"judging it failed: {type(error).__name__}: {error}"
            return replace(said, outcome="skipped", reason=reason)

    def begin(self, asked: Asked, source: bytes) -> Judgement:
        """What was asked, and nothing yet of what was given."""
        configuration, request = self._configuration, self._request(asked.sentence)
        return Judgement(
            id=asked.id,
            category=int(request.category),
            sentence=asked.sentence,
            script=_digest(source, asked),
            outcome="skipped",
            reason="",
            ran_in="",
            checks={},
            date=today(),
            required_speedup=request.speedup,
            max_loss=_loss_limit(request, configuration.loss_limit),
            max_seconds_per_image=request.latency_s,
        )

    def _request(self, sentence: str) -> Request:
        configuration = self._configuration.configuration
        own = configuration.own_scheduler
        return tasks.parse(sentence, [configuration.model], {own.name: own} if own else None)

    def _judged(self, said: Judgement, source: bytes) -> Judgement:
        configuration, request = self._configuration, self._request(said.sentence)
        if request.platform not in (None, configuration.platform):
            reason = f"the task is for {request.platform}, and this is {configuration.platform}"
            return replace(said, reason=reason)
        checks = examine(source, configuration.wanted(request))
        said = replace(said, checks=checks)
        if problem := next((f"{name}: {text}" for name, text in checks.items() if text), None):
            return replace(said, outcome="static", reason=problem)
        return self.try_out(replace(said, ran_in=self._ran_in), source)

    def try_out(self, said: Judgement, source: bytes) -> Judgement:
        """The two stages in which it runs."""
        try:
            generated = self.trials.run(said, source)
        except Failed as error:
            return replace(said, outcome="absolute", reason=str(error))
        except Disturbed as error:
            reason = f"{error}: no fault of the script's that can be told; judge it again"
            return replace(said, outcome="undecided", reason=reason)
        said = self._measured(said, generated)
        checks: list[tuple[Outcome, Callable[[Judgement, Generated], str]]] = [
            ("absolute", self._looks_wrong),
            ("relative", self._misses),
        ]
        for outcome, check in checks:
            if problem := check(said, generated):
                return replace(said, outcome=outcome, reason=problem)
        if self.trials.goal(said).reached(generated.fair_pairs()) is None:
            return replace(said, outcome="undecided", reason=_noisy(said))
        return replace(said, outcome="passed")

    @functools.cached_property
    def metrics(self) -> dict[str, Compute]:
        return prepared((), self._configuration.spec.scorer, self.trials.device.name)

    def _measured(self, said: Judgement, generated: Generated) -> Judgement:
        images, references = np.concatenate(generated.images), np.concatenate(generated.references)
        own, known = count_own(images, references)
        with self.trials.device.shared():
            scores = {
                name: compute(images, generated.prompts, references)
                for name, compute in self.metrics.items()
            }
            before = self.metrics[SCORE](references, generated.prompts, None)
            others = generated.prompts[-2:] + generated.prompts[:-2]
            shuffled = self.metrics[SCORE](references, others, None)
        if problem := check_scores(before, shuffled):
            raise MeasureError(problem)
        timing = timing_of(generated.fair_pairs())
        size, warnings = self._configuration.spec.batch_size, []
        if timing.spread > self._configuration.measure.spread:
            warnings.append(f"the timing was noisy: spread {timing.spread:.1%}")
        if generated.slowed() > SLOWED:
            warnings.append(
                f"the baseline pipeline took {generated.slowed():.2f} times as long while the "
                "script was there; what it took alone counts"
            )
        return replace(
            said,
            scores={name: float(np.mean(values)) for name, values in scores.items()},
            reference_score=float(np.mean(before)),
            own=own / known,
            speedup=timing.speedup,
            loss=loss_of(before, scores[SCORE]),
            loss_interval=loss_interval(
                before, scores[SCORE], self._configuration.measure.confidence
            ),
            seconds_per_image=statistics.median(timing.accelerated) / size,
            timing=timing,
            prompts=len(generated.prompts),
            warnings=warnings,
        )

    def _looks_wrong(self, said: Judgement, generated: Generated) -> str:
        """What is wrong with the images by themselves, or nothing."""
        images, references = np.concatenate(generated.images), np.concatenate(generated.references)
        blank = count_blank(images)
        if blank > count_blank(references):
            return f"{blank} of {said.prompts} images are blank"
        own, known = count_own(images, references)
        if not seeds_matter(own, known):
            return (
                f"only {own} of {known} images are nearer to the baseline pipeline's of their own "
                "seed than to its image of the same prompt and another seed, which chance alone "
                "may do: image i is to be generated from the noise of "
                "torch.Generator('cpu').manual_seed(seeds[i])"
            )
        least = (said.reference_score or 0.0) * (1 - self._configuration.options.margin)
        if said.scores[SCORE] < least:
            return (
                f"CLIP score {said.scores[SCORE]:.2f}, of the baseline pipeline "
                f"{said.reference_score:.2f}: less than {least:.2f}"
            )
        return ""

    def _misses(self, said: Judgement, generated: Generated) -> str:
        """What was asked for and is not reached, or nothing."""
        reached = self.trials.goal(said).reached(generated.fair_pairs())
        problems = [_speed(said)] if reached is False else []
        if self._request(said.sentence).accelerators and self._is_idle(said, generated):
            problems.append(
                f"no other images, and no faster than the baseline pipeline ({said.speedup:.2f}x): "
                "what is put on changes nothing"
            )
        limit, interval = said.max_loss, said.loss_interval
        if limit is not None and interval is not None and interval[0] >= limit:
            low, high = interval
            problems.append(f"loss {said.loss:.4f} ({low:.4f} to {high:.4f}), asked below {limit}")
        return "; ".join(problems)

    def _is_idle(self, said: Judgement, generated: Generated) -> bool:
        """Whether it generates what the baseline pipeline generates, and is neither clearly faster,
        nor by more than is left to the timing."""
        any_faster = 1 / (1 - TOLERANCE)
        if not generated.same_images() or (said.speedup or 0.0) > any_faster:
            return False
        return (
            replace(self.trials.goal(said), speedup=any_faster).reached(generated.fair_pairs())
            is not True
        )


def _speed(said: Judgement) -> str:
    """What was asked for of a script's speed, and what was measured."""
    if said.required_speedup is not None:
        return f"speedup {said.speedup:.2f}x, asked {said.required_speedup}x"
    return f"{said.seconds_per_image:.3g} s an image, asked {said.max_seconds_per_image} s"


def _noisy(said: Judgement) -> str:
    pairs = len(said.timing.baseline) if said.timing else 0
    return f"{_speed(said)}: the timing is too noisy to tell after {pairs} rounds; judge it again"


def _loss_limit(request: Request, configured: float) -> float | None:
    """The loss that a script must stay below; of the baseline pipeline nothing is lost."""
    if request.category is Category.PLAIN:
        return None
    return configured if request.max_loss is None else request.max_loss
