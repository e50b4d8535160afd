"""Judging the scripts of a setup, in three stages, each against the plain pipeline of our own.

What a script draws is drawn anew, of prompts and seeds that are chosen when it is asked and that it
is told one call at a time; what is timed is scored, all of it. The plain pipeline runs in a sandbox
of its own and is asked in turn with the script, in the same way and by the same clock.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffaccel import bench as benches
from diffaccel import devices, sources, tasks
from diffaccel.errors import InputError
from diffaccel.grid import Setup, scheduler_class
from diffaccel.journal import Journal
from diffaccel.jsonio import digest, read_json, to_json
from diffaccel.judge import sandbox
from diffaccel.judge.records import Asked, Judged, Judgement, JudgeOptions, Outcome
from diffaccel.judge.sandbox import Failed, Limits, Room, Sandbox
from diffaccel.judge.static import Wanted, examine
from diffaccel.judge.syntax import LONGEST
from diffaccel.measure import (
    MeasureError,
    check_scores,
    count_blank,
    loss_interval,
    loss_of,
    today,
)
from diffaccel.metrics import METRICS, SCORE
from diffaccel.metrics.base import Compute, Images
from diffaccel.models import FAMILIES, content_hash, identity
from diffaccel.pairs import at_least, timing_of
from diffaccel.prompts import read_prompts
from diffaccel.records import MeasureOptions, ModelSpec
from diffaccel.stages import code
from diffaccel.stages.verify import TOLERANCE
from diffaccel.tasks import Category, Request

log = logging.getLogger(__name__)

OWN = 0.6
"""Share of the images that must be nearer to their own seed's than to another's; it is a half for
images that do not depend on the seed."""
MOST_PROMPTS = 100_000
ALONE = 2
"""Calls of the plain pipeline that are timed while there is no other."""
SLOWED = 1.1
"""How many times as long it may take while the script is there: machines are not that steady."""
PATIENCE = 20.0
"""How many times as long as the plain pipeline's a call may take, the first apart."""
SLACK_SECONDS = 30.0
"""On top of that."""
LOOKS = 5
"""How often it is looked whether a script is as fast as was asked: after the rounds that are there
anyway, and while it is not clear, after twice as many each time."""


@dataclass(frozen=True)
class Case:
    """A setup with all that its scripts are judged by.

    Args:
        spec: the model, fetched.
        loss_limit: where a task names none.
    """

    setup: Setup
    spec: ModelSpec
    measure: MeasureOptions
    options: JudgeOptions
    loss_limit: float
    platform: str

    @property
    def family(self) -> Any:
        return FAMILIES[self.spec.family]

    @property
    def limits(self) -> Limits:
        options = self.options
        memory = int(options.memory_gib * sandbox.GIB)
        return Limits(
            memory=memory, load_seconds=options.load_seconds, call_seconds=options.call_seconds
        )

    def wanted(self, request: Request) -> Wanted:
        """What a script must do by its syntax."""
        open_choice = request.category is Category.LATENCY and not request.accelerators
        return Wanted(
            pipeline_class=self.family.pipeline_class,
            source=sources.split(self.spec.source)[0],
            scheduler_class=scheduler_class(self.setup.scheduler),
            own_scheduler=own_scheduler(self.spec.source),
            steps=self.setup.steps,
            accelerators=None if open_choice else frozenset(request.accelerators),
        )

    def plain(self) -> str:
        """The source of the plain pipeline's script."""
        return code.plain(self.spec, self.setup, "the plain pipeline, to compare with")

    def prompts(self) -> list[str]:
        """All prompts of the model's file, of which some are drawn."""
        return read_prompts(Path(self.spec.prompts), self.measure.prompts, most=MOST_PROMPTS)

    def digest(self) -> str:
        """Of all that judgements depend on, besides scripts and tasks and chance."""
        return digest(
            [
                to_json(self.setup),
                identity(self.spec),
                content_hash(self.spec.scorer),
                to_json(replace(self.spec, scorer="", source="", prompts="")),
                self.prompts(),
                to_json(self.measure),
                to_json(self.options),
                self.loss_limit,
                self.platform,
                devices.describe(),
                benches.versions(),
            ]
        )


def run(case: Case, asked: Sequence[Asked], scripts: Path, journal: Path) -> Judged:
    """Judges the scripts of a setup. What the journal has of the same script and the same task is
    not judged again.

    Raises:
        SandboxError: no sandbox can be had, and none was not asked for.
        MeasureError: the plain pipeline itself fails, or its score says nothing.
    """
    ran_in = sandbox.how(case.options.sandbox)
    rows = Journal(journal, digest([case.digest(), ran_in]), Judgement)
    known = {row.id: row for row in rows.rows()}
    with contextlib.ExitStack() as stack:
        court = Court(case, ran_in, stack)
        for each in asked:
            source = read_script(scripts / f"{each.id}.py")
            before = known.get(each.id)
            if before is None or before.script != _digest(source, each):
                known[each.id] = said = court.judge(each, source)
                if said.outcome not in ("skipped", "undecided"):  # another time it may be judged
                    rows.append(said)
                _say(said)
    return Judged(case.setup, [known[each.id] for each in asked])


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


@dataclass
class Drawn:
    """What a script and the plain pipeline drew of the same prompts and seeds, in turn.

    Args:
        prompts: one an image; each is there twice, one after the other, with two seeds.
        images, references: of the script and of the plain pipeline, a batch each.
        pairs: seconds of the plain pipeline and of the script, a round each.
        alone: seconds of the plain pipeline before the script was there, and after.
    """

    prompts: list[str] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)
    references: list[Images] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def reached(self, said: Judgement, images: int, confidence: float) -> bool | None:
        """Whether the speedup or the latency that was asked for is, if one was; None where the
        clock does not tell. `TOLERANCE` is left to it, as where our own scripts are proven.

        Args:
            images: of a call.
            confidence: over all looks together.
        """
        plain, own = np.array(self.fair_pairs()).T
        left, error = math.log(1 - TOLERANCE), (1 - confidence) / LOOKS
        if said.required_speedup is not None:
            return at_least(np.log(plain / own), math.log(said.required_speedup) + left, error)
        if said.max_seconds_per_image is not None:
            return at_least(
                -np.log(own / images), left - math.log(said.max_seconds_per_image), error
            )
        return True

    def fair_pairs(self) -> list[tuple[float, float]]:
        """The pairs; where the script slowed the plain pipeline down, that one no slower than it
        ever was alone: what a script does while it is not asked gains it nothing."""
        if self.slowed() <= SLOWED:
            return self.pairs
        return [(min(plain, max(self.alone)), own) for plain, own in self.pairs]

    def slowed(self) -> float:
        """How many times as long the plain pipeline took while the script was there, at least."""
        return statistics.median(plain for plain, _ in self.pairs) / max(self.alone)


class Court:
    """Judges scripts one after the other. Device, metrics and the plain pipeline are taken with the
    first that needs them, and kept until the stack is closed."""

    def __init__(self, case: Case, ran_in: str, stack: contextlib.ExitStack) -> None:
        self._case, self._ran_in, self._stack = case, ran_in, stack
        # Of the operating system's randomness: no script can tell what comes.
        self._chance = random.SystemRandom()
        self._plain: Sandbox | None = None

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
        return tasks.parse(sentence, [self._case.setup.model])

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
            drawn = self._draw(said, source)
            if drawn.slowed() > SLOWED:
                # By the script, or by chance: what is not the script's does not come twice.
                drawn = self._draw(said, source)
        except Failed as error:
            return replace(said, outcome="absolute", reason=str(error))
        said = self._measured(said, drawn)
        checks: list[tuple[Outcome, Callable[[Judgement, Drawn], str]]] = [
            ("absolute", self._looks_wrong),
            ("relative", self._misses),
        ]
        for outcome, check in checks:
            if problem := check(said, drawn):
                return replace(said, outcome=outcome, reason=problem)
        if self._reached(said, drawn) is None:
            return replace(said, outcome="undecided", reason=_noisy(said))
        return replace(said, outcome="passed")

    # Drawing

    @functools.cached_property
    def _device(self) -> devices.Device:
        return benches.take_device(self._stack, self._case.spec)

    @functools.cached_property
    def metrics(self) -> dict[str, Compute]:
        scorer, name = self._case.spec.scorer, self._device.name
        return {key: metric.prepare(scorer, name) for key, metric in METRICS.items()}

    @functools.cached_property
    def prompts(self) -> list[str]:
        return self._case.prompts()

    @functools.cached_property
    def _room(self) -> Room:
        return room(self._case.spec, gpu=self._device.name == "cuda")

    @contextlib.contextmanager
    def _opened(self, source: bytes) -> Iterator[Sandbox]:
        case = self._case
        with Sandbox(source, self._room, case.limits, sandboxed=case.options.sandbox) as opened:
            with self._device.beside():
                opened.load()
            yield opened

    def _reference(self) -> Sandbox:
        """The plain pipeline, loaded and called once."""
        if self._plain is None:
            try:
                source = self._case.plain().encode()
                self._plain = self._stack.enter_context(self._opened(source))
                self._call(self._plain, *self._batch())
            except Failed as error:
                raise MeasureError(f"the plain pipeline cannot be run: {error}") from None
        return self._plain

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
        data, took = who.draw(prompts, seeds, size, seconds)
        return np.frombuffer(data, np.uint8).reshape(len(prompts), *size, 3), took

    def _draw(self, said: Judgement, source: bytes) -> Drawn:
        """Draws and times rounds of the plain pipeline and the script in turn, until it is clear
        whether that is as fast as was asked.

        Raises:
            Failed: the script did something wrong.
        """
        plain, stream, drawn = self._reference(), self._stream(), Drawn()
        # As long as the script is there, whatever it does, no other job is on the clock.
        with self._device.alone():
            drawn.alone += self._time_alone(plain)
            with self._opened(source) as script:
                self._call(script, *self._batch())  # compiles, and fills caches
                for rounds in self._looks():
                    while len(drawn.pairs) < rounds:
                        self._round(plain, script, drawn, *self._batch(stream))
                    if not self._wants_more(said, drawn):
                        break
            drawn.alone += self._time_alone(plain)
        return drawn

    def _time_alone(self, plain: Sandbox) -> list[float]:
        return [self._call_plain(plain, *self._batch())[1] for _ in range(ALONE)]

    def _looks(self) -> Iterator[int]:
        """After how many rounds it is looked whether they are enough."""
        options = self._case.measure
        rounds = max(options.pairs, math.ceil(options.prompts / self._case.spec.batch_size))
        for _ in range(LOOKS):
            yield rounds
            rounds = max(2 * rounds, options.max_pairs)

    def _wants_more(self, said: Judgement, drawn: Drawn) -> bool:
        options = self._case.measure
        noisy = timing_of(drawn.pairs).spread > options.spread
        if noisy and len(drawn.pairs) < options.max_pairs:
            return True
        return self._reached(said, drawn) is None

    def _reached(self, said: Judgement, drawn: Drawn) -> bool | None:
        return drawn.reached(said, self._case.spec.batch_size, self._case.measure.confidence)

    def _round(
        self, plain: Sandbox, script: Sandbox, drawn: Drawn, prompts: list[str], seeds: list[int]
    ) -> None:
        """One call of each with the same prompts and seeds; every other round goes backwards."""
        seconds = SLACK_SECONDS + PATIENCE * max(drawn.alone)
        made: dict[str, tuple[Images, float]] = {}
        for who in ("plain", "script")[:: -1 if len(drawn.pairs) % 2 else 1]:
            if who == "script":
                made[who] = self._call(script, prompts, seeds, seconds)
            else:
                made[who] = self._call_plain(plain, prompts, seeds)
        drawn.prompts += prompts
        drawn.references.append(made["plain"][0])
        drawn.images.append(made["script"][0])
        drawn.pairs.append((made["plain"][1], made["script"][1]))

    def _call_plain(
        self, plain: Sandbox, prompts: list[str], seeds: list[int]
    ) -> tuple[Images, float]:
        """A call of the plain pipeline, which worked until there was this script."""
        try:
            return self._call(plain, prompts, seeds)
        except Failed as error:
            self._plain = None  # a new one for the next script
            raise Failed(f"the plain pipeline could not draw beside it: {error}") from None

    # Judging

    def _measured(self, said: Judgement, drawn: Drawn) -> Judgement:
        images, references = np.concatenate(drawn.images), np.concatenate(drawn.references)
        with self._device.beside():
            scores = {
                name: compute(images, drawn.prompts, references)
                for name, compute in self.metrics.items()
            }
            before = self.metrics[SCORE](references, drawn.prompts, None)
            others = drawn.prompts[-2:] + drawn.prompts[:-2]
            shuffled = float(np.mean(self.metrics[SCORE](references, others, None)))
        if problem := check_scores(before, shuffled):
            raise MeasureError(problem)
        timing = timing_of(drawn.fair_pairs())
        size, warnings = self._case.spec.batch_size, []
        if timing.spread > self._case.measure.spread:
            warnings.append(f"the clock was noisy: spread {timing.spread:.1%}")
        if drawn.slowed() > SLOWED:
            warnings.append(
                f"the plain pipeline took {drawn.slowed():.2f} times as long while the script was "
                "there; what it took alone counts"
            )
        return replace(
            said,
            scores={name: float(np.mean(values)) for name, values in scores.items()},
            reference_score=float(np.mean(before)),
            own=share_of_own(images, references),
            speedup=timing.speedup,
            loss=loss_of(before, scores[SCORE]),
            loss_interval=loss_interval(before, scores[SCORE], self._case.measure.confidence),
            seconds_per_image=statistics.median(timing.accelerated) / size,
            timing=timing,
            prompts=len(drawn.prompts),
            warnings=warnings,
        )

    def _looks_wrong(self, said: Judgement, drawn: Drawn) -> str:
        """What is wrong with the images by themselves, or nothing."""
        blank = count_blank(np.concatenate(drawn.images))
        if blank > count_blank(np.concatenate(drawn.references)):
            return f"{blank} of {said.prompts} images are blank"
        if said.own is not None and said.own < OWN:
            return (
                f"only {said.own:.0%} of the images are nearer to the plain pipeline's of their "
                f"own seed than to those of another, and {OWN:.0%} are needed: image i is to be "
                "drawn from the noise of torch.Generator('cpu').manual_seed(seeds[i])"
            )
        least = (said.reference_score or 0.0) * (1 - self._case.options.margin)
        if said.scores[SCORE] < least:
            return (
                f"CLIP score {said.scores[SCORE]:.2f}, of the plain pipeline "
                f"{said.reference_score:.2f}: less than {least:.2f}"
            )
        return ""

    def _misses(self, said: Judgement, drawn: Drawn) -> str:
        """What was asked for and is not reached, or nothing."""
        problems = [_speed(said)] if self._reached(said, drawn) is False else []
        limit, interval = said.max_loss, said.loss_interval
        if limit is not None and interval is not None and interval[0] >= limit:
            low, high = interval
            problems.append(f"loss {said.loss:.4f} ({low:.4f} to {high:.4f}), asked below {limit}")
        return "; ".join(problems)


def _speed(said: Judgement) -> str:
    """What was asked for of a script's speed, and what was measured."""
    if said.required_speedup is not None:
        return f"speedup {said.speedup:.2f}x, asked {said.required_speedup}x"
    return f"{said.seconds_per_image:.3g} s an image, asked {said.max_seconds_per_image} s"


def _noisy(said: Judgement) -> str:
    pairs = len(said.timing.baseline) if said.timing else 0
    return f"{_speed(said)}: the clock is too noisy to tell after {pairs} rounds; judge it again"


def _loss_limit(request: Request, configured: float) -> float | None:
    """The loss that a script must stay below; of the plain pipeline nothing is lost."""
    if request.category is Category.PLAIN:
        return None
    return configured if request.max_loss is None else request.max_loss


def own_scheduler(source: str) -> str | None:
    """The class of the scheduler that a model comes with, where a file here tells it."""
    file = "scheduler/scheduler_config.json"
    path: Any = Path(source) / file
    if not sources.is_local(source):
        from huggingface_hub import try_to_load_from_cache

        name, revision = sources.split(source)
        path = try_to_load_from_cache(name, file, revision=revision)
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    return str(read_json(Path(path)).get("_class_name"))


def share_of_own(images: Images, references: Images) -> float:
    """Share of the images that are nearer to the reference of their own seed than to that of the
    same prompt and the other seed.

    Args:
        images, references: two of each prompt, one after the other, with two seeds.
    """
    made, known = images.astype(np.float32), references.astype(np.float32)
    pairs = len(made) // 2 * 2
    swapped = np.arange(pairs) ^ 1
    own = ((made[:pairs] - known[:pairs]) ** 2).mean(axis=(1, 2, 3))
    other = ((made[:pairs] - known[swapped]) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(own < other))


def room(spec: ModelSpec, *, gpu: bool) -> Room:
    """What a script of a model sees: the model, and nothing else of this machine's files."""
    readable: dict[str, Path] = {}
    environment: dict[str, str] = {}
    for source in (spec.source, spec.vae, spec.config):
        if source is None:
            continue
        if sources.is_local(source):
            place = os.path.normpath(os.path.join(sandbox.CODE, source))
            readable[place] = Path(source).resolve()
        else:
            from huggingface_hub import constants

            name = "models--" + sources.split(source)[0].replace("/", "--")
            readable[str(Path(constants.HF_HUB_CACHE) / name)] = Path(constants.HF_HUB_CACHE, name)
            environment["HF_HUB_CACHE"] = constants.HF_HUB_CACHE
    if gpu:
        kept = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
        environment |= {name: os.environ[name] for name in kept if name in os.environ}
    return Room(readable, gpu, environment, 0 if gpu else spec.threads)
