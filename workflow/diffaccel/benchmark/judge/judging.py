"""Judging the scripts of a configuration, in three stages, each against the baseline pipeline of
our own.

What a script generates is generated anew, of prompts and seeds that are chosen when it is asked and
that it is told one call at a time; what is timed is scored, all of it. The baseline pipeline runs
in a sandbox of its own and is asked in turn with the script, in the same way and by the same
timing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import random
import stat
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffaccel.benchmark.judge import sandbox
from diffaccel.benchmark.judge.case import Case, room
from diffaccel.benchmark.judge.generated import SLOWED, Drawn, count_own, seeds_matter
from diffaccel.benchmark.judge.plain import Plain
from diffaccel.benchmark.judge.records import Judged, Judgement, Outcome
from diffaccel.benchmark.judge.sandbox import Disturbed, Failed, Limits, Sandbox, SandboxMounts
from diffaccel.benchmark.judge.static import examine
from diffaccel.benchmark.judge.syntax import LONGEST
from diffaccel.errors import InputError
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.calls import MeasureError
from diffaccel.evaluation.pairs import TOLERANCE, Goal, timing_of, want_more
from diffaccel.evaluation.scores import check_scores, count_blank, loss_interval, loss_of
from diffaccel.evaluation.sequential import doubling
from diffaccel.experiment import tasks
from diffaccel.experiment.asked import Asked
from diffaccel.experiment.tasks import Category, Request
from diffaccel.machine import devices
from diffaccel.plugins.metrics import METRICS, SCORE
from diffaccel.plugins.metrics.base import Compute, Images
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest, today

log = logging.getLogger(__name__)

ALONE = 2
"""Calls of the baseline pipeline that are timed while there is no other."""
PATIENCE = 20.0
"""How many times as long as the baseline pipeline's a call may take, the first apart."""
SLACK_SECONDS = 30.0
"""On top of that."""


def run(case: Case, asked: Sequence[Asked], scripts: Path, journal: Path) -> Judged:
    """Judges the scripts of a configuration. What the journal has of the same script and the same
    task is not judged again.

    Raises:
        SandboxError: no sandbox can be had, and none was not asked for.
        MeasureError: the baseline pipeline itself fails, or its score says nothing.
    """
    ran_in = sandbox.how(case.options.sandbox)
    rows = Journal(journal, digest([case.digest(), ran_in]), Judgement, case.about())
    known = {row.id: row for row in rows.rows()}
    with contextlib.ExitStack() as stack:
        court = Evaluator(case, ran_in, stack)
        for each in asked:
            source = read_script(scripts / f"{each.id}.py")
            before = known.get(each.id)
            if before is None or before.script != _digest(source, each):
                known[each.id] = said = court.judge(each, source)
                if said.outcome not in ("skipped", "undecided"):  # another time it may be judged
                    rows.append(said)
                _say(said)
    return Judged(case.configuration, [known[each.id] for each in asked])


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
    """Judges scripts one after the other. Device, metrics and the baseline pipeline are taken with
    the first that needs them, and kept until the stack is closed."""

    def __init__(self, case: Case, ran_in: str, stack: contextlib.ExitStack) -> None:
        self._case, self._ran_in, self._stack = case, ran_in, stack
        # Of the operating system's randomness: no script can tell what comes.
        self._chance = random.SystemRandom()

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
        case, request = self._case, self._request(asked.sentence)
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
            max_loss=_loss_limit(request, case.loss_limit),
            max_seconds_per_image=request.latency_s,
        )

    def _request(self, sentence: str) -> Request:
        return tasks.parse(sentence, [self._case.configuration.model])

    def _judged(self, said: Judgement, source: bytes) -> Judgement:
        case, request = self._case, self._request(said.sentence)
        if request.platform not in (None, case.platform):
            reason = f"the task is for {request.platform}, and this is {case.platform}"
            return replace(said, reason=reason)
        checks = examine(source, case.wanted(request))
        said = replace(said, checks=checks)
        if problem := next((f"{name}: {text}" for name, text in checks.items() if text), None):
            return replace(said, outcome="static", reason=problem)
        return self.try_out(replace(said, ran_in=self._ran_in), source)

    def try_out(self, said: Judgement, source: bytes) -> Judgement:
        """The two stages in which it runs."""
        try:
            generated = self._generated(said, source)
        except Failed as error:
            return replace(said, outcome="absolute", reason=str(error))
        except Disturbed as error:
            reason = f"{error}: no fault of the script's that can be told; judge it again"
            return replace(said, outcome="undecided", reason=reason)
        said = self._measured(said, generated)
        checks: list[tuple[Outcome, Callable[[Judgement, Drawn], str]]] = [
            ("absolute", self._looks_wrong),
            ("relative", self._misses),
        ]
        for outcome, check in checks:
            if problem := check(said, generated):
                return replace(said, outcome=outcome, reason=problem)
        if self._goal(said).reached(generated.fair_pairs()) is None:
            return replace(said, outcome="undecided", reason=_noisy(said))
        return replace(said, outcome="passed")

    # Drawing

    @functools.cached_property
    def _device(self) -> devices.Device:
        return benches.take_device(self._stack, self._case.spec, self._case.platform)

    @functools.cached_property
    def metrics(self) -> dict[str, Compute]:
        scorer, name = self._case.spec.scorer, self._device.name
        return {key: metric.prepare(scorer, name) for key, metric in METRICS.items()}

    @functools.cached_property
    def prompts(self) -> list[str]:
        return self._case.prompts()

    @functools.cached_property
    def _room(self) -> SandboxMounts:
        return room(self._case.spec, gpu=self._device.name == "cuda")

    @contextlib.contextmanager
    def _opened(self, source: bytes, limits: Limits) -> Iterator[Sandbox]:
        sandboxed, wanted = self._case.options.sandbox, self._case.watched(self._device.name)
        with Sandbox(source, self._room, limits, sandboxed=sandboxed, wanted=wanted) as opened:
            with self._device.shared():
                opened.load()
            yield opened

    @functools.cached_property
    def _plain(self) -> Plain:
        limits = replace(self._case.limits, floor=0.0)
        made = Plain(lambda: self._opened(self._case.plain().encode(), limits), self._call)
        self._stack.callback(made.close)
        return made

    def _stream(self) -> Iterator[tuple[str, int]]:
        """Prompts and seeds that nobody knew before: each prompt twice, with two seeds."""
        while True:
            for prompt in self._chance.sample(self.prompts, len(self.prompts)):
                for _ in range(2):
                    yield prompt, self._chance.randrange(2**31)

    def _batch(
        self, stream: Iterator[tuple[str, int]] | None = None
    ) -> tuple[list[str], list[int]]:
        """Prompts and seeds of one call."""
        some = itertools.islice(stream or self._stream(), self._case.spec.batch_size)
        prompts, seeds = zip(*some, strict=True)
        return list(prompts), list(seeds)

    def _call(
        self, who: Sandbox, prompts: list[str], seeds: list[int], seconds: float | None = None
    ) -> tuple[Images, float]:
        spec = self._case.spec
        size = (spec.height, spec.width)
        data, took = who.generate(prompts, seeds, size, seconds)
        return np.frombuffer(data, np.uint8).reshape(len(prompts), *size, 3), took

    def _generated(self, said: Judgement, source: bytes) -> Drawn:
        """Draws, and once more where something else than the script may have gone wrong: what is
        not the script's does not come twice.

        Raises:
            Failed: the script did something wrong.
            Disturbed: something else did, twice.
        """
        try:
            generated = self._generate(said, source)
            if generated.slowed() <= SLOWED:
                return generated
        except Disturbed as error:
            log.warning("%s: %s; once more", said.id, error)
        return self._generate(said, source)

    def _generate(self, said: Judgement, source: bytes) -> Drawn:
        """Draws and times rounds of the baseline pipeline and the script in turn, until it is clear
        whether that is as fast as was asked.

        Raises:
            Failed: the script did something wrong.
            Disturbed: the baseline pipeline failed, or the machine.
        """
        stream, generated = self._stream(), Drawn()
        self._plain.ready(*self._batch())
        # As long as the script is there, whatever it does, no other job is being timed.
        with self._device.exclusive():
            generated.alone += self._time_alone()
            with self._opened(source, self._case.limits) as script:
                self._call(script, *self._batch())  # compiles, and fills caches
                while self._wants_more(said, generated):
                    self._round(script, generated, *self._batch(stream))
            generated.alone += self._time_alone()
        return generated

    def _time_alone(self) -> list[float]:
        return [self._plain.generate(*self._batch())[1] for _ in range(ALONE)]

    def _goal(self, said: Judgement) -> Goal:
        """How fast the script must be."""
        case = self._case
        options, size = case.measure, case.spec.batch_size
        rounds = max(options.pairs, math.ceil(options.prompts / size))
        return Goal(
            analyses=doubling(rounds, max(rounds, options.max_pairs), case.options.max_pairs),
            confidence=options.confidence,
            speedup=said.required_speedup,
            seconds_per_image=said.max_seconds_per_image,
            images=size,
        )

    def _wants_more(self, said: Judgement, generated: Drawn) -> bool:
        options, goal, count = self._case.measure, self._goal(said), len(generated.pairs)
        if count < goal.analyses[0] or want_more(generated.pairs, options):
            return True
        return goal.wants_more(generated.fair_pairs())

    def _round(
        self, script: Sandbox, generated: Drawn, prompts: list[str], seeds: list[int]
    ) -> None:
        """One call of each with the same prompts and seeds; every other round goes backwards."""
        seconds = SLACK_SECONDS + PATIENCE * max(generated.alone)
        made: dict[str, tuple[Images, float]] = {}
        for who in ("plain", "script")[:: -1 if len(generated.pairs) % 2 else 1]:
            if who == "script":
                made[who] = self._call(script, prompts, seeds, seconds)
            else:
                made[who] = self._plain.generate(prompts, seeds)
        generated.prompts += prompts
        generated.references.append(made["plain"][0])
        generated.images.append(made["script"][0])
        generated.pairs.append((made["plain"][1], made["script"][1]))

    # Judging

    def _measured(self, said: Judgement, generated: Drawn) -> Judgement:
        images, references = np.concatenate(generated.images), np.concatenate(generated.references)
        own, known = count_own(images, references)
        with self._device.shared():
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
        size, warnings = self._case.spec.batch_size, []
        if timing.spread > self._case.measure.spread:
            warnings.append(f"the timing was noisy: spread {timing.spread:.1%}")
        if generated.slowed() > SLOWED:
            warnings.append(
                f"the baseline pipeline took {generated.slowed():.2f} times as long while the "
                "script was "
                "there; what it took alone counts"
            )
        return replace(
            said,
            scores={name: float(np.mean(values)) for name, values in scores.items()},
            reference_score=float(np.mean(before)),
            own=own / known,
            speedup=timing.speedup,
            loss=loss_of(before, scores[SCORE]),
            loss_interval=loss_interval(before, scores[SCORE], self._case.measure.confidence),
            seconds_per_image=statistics.median(timing.accelerated) / size,
            timing=timing,
            prompts=len(generated.prompts),
            warnings=warnings,
        )

    def _looks_wrong(self, said: Judgement, generated: Drawn) -> str:
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
        least = (said.reference_score or 0.0) * (1 - self._case.options.margin)
        if said.scores[SCORE] < least:
            return (
                f"CLIP score {said.scores[SCORE]:.2f}, of the baseline pipeline "
                f"{said.reference_score:.2f}: less than {least:.2f}"
            )
        return ""

    def _misses(self, said: Judgement, generated: Drawn) -> str:
        """What was asked for and is not reached, or nothing."""
        reached = self._goal(said).reached(generated.fair_pairs())
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

    def _is_idle(self, said: Judgement, generated: Drawn) -> bool:
        """Whether it generates what the baseline pipeline generates, and is neither clearly faster,
        nor by more than is left to the timing."""
        any_faster = 1 / (1 - TOLERANCE)
        if not generated.same_images() or (said.speedup or 0.0) > any_faster:
            return False
        return (
            replace(self._goal(said), speedup=any_faster).reached(generated.fair_pairs())
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
