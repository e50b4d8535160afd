"""Running a script in turn with the baseline pipeline, for images and times of both.

What a script generates is generated anew, of prompts and seeds that are chosen when it is asked and
that it is told one call at a time. The baseline pipeline runs in a sandbox of its own and is asked
in turn with the script, in the same way and by the same timing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from diffaccel.benchmark.judge.baseline import BaselineProcess
from diffaccel.benchmark.judge.generated import SLOWED, Generated
from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration, sandbox_mounts
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.benchmark.judge.mounts import SandboxMounts
from diffaccel.benchmark.judge.protocol import Disturbed
from diffaccel.benchmark.judge.records import Judgement
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.pairs import Goal, want_more
from diffaccel.evaluation.sequential import doubling
from diffaccel.machine import devices
from diffaccel.plugins.metrics.base import Images

log = logging.getLogger(__name__)

ALONE = 2
"""Calls of the baseline pipeline that are timed while there is no other."""
PATIENCE = 20.0
"""How many times as long as the baseline pipeline's a call may take, the first apart."""
SLACK_SECONDS = 30.0
"""On top of that."""


class Trials:
    """Runs scripts in turn with the baseline pipeline, both in sandboxes.

    Device, prompts and the baseline pipeline are taken with the first script that needs them, and
    kept until the stack is closed.
    """

    def __init__(self, configuration: JudgeConfiguration, stack: contextlib.ExitStack) -> None:
        self._configuration, self._stack = configuration, stack
        # Of the operating system's randomness: no script can tell what comes.
        self._chance = random.SystemRandom()

    @functools.cached_property
    def device(self) -> devices.Device:
        return benches.take_device(
            self._stack, self._configuration.spec, self._configuration.platform
        )

    @functools.cached_property
    def prompts(self) -> list[str]:
        return self._configuration.prompts()

    @functools.cached_property
    def _mounts(self) -> SandboxMounts:
        return sandbox_mounts(self._configuration.spec, gpu=self.device.name == "cuda")

    @contextlib.contextmanager
    def _opened(self, source: bytes, limits: Limits) -> Iterator[Sandbox]:
        sandboxed = self._configuration.options.sandbox
        wanted = self._configuration.watched(self.device.name)
        with Sandbox(source, self._mounts, limits, sandboxed=sandboxed, wanted=wanted) as opened:
            with self.device.shared():
                opened.load()
            yield opened

    @functools.cached_property
    def _baseline(self) -> BaselineProcess:
        limits = replace(self._configuration.limits, floor=0.0)
        made = BaselineProcess(
            lambda: self._opened(self._configuration.baseline_script().encode(), limits), self._call
        )
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
        some = itertools.islice(stream or self._stream(), self._configuration.spec.batch_size)
        prompts, seeds = zip(*some, strict=True)
        return list(prompts), list(seeds)

    def _call(
        self, who: Sandbox, prompts: list[str], seeds: list[int], seconds: float | None = None
    ) -> tuple[Images, float]:
        spec = self._configuration.spec
        size = (spec.height, spec.width)
        data, took = who.generate(prompts, seeds, size, seconds)
        return np.frombuffer(data, np.uint8).reshape(len(prompts), *size, 3), took

    def run(self, said: Judgement, source: bytes) -> Generated:
        """Generates, and once more where something else than the script may have gone wrong: what
        is not the script's does not come twice.

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

    def _generate(self, said: Judgement, source: bytes) -> Generated:
        """Generates and times rounds of the baseline pipeline and the script in turn, until it is
        clear whether the script is as fast as was asked.

        Raises:
            Failed: the script did something wrong.
            Disturbed: the baseline pipeline failed, or the machine.
        """
        stream, generated = self._stream(), Generated()
        self._baseline.ready(*self._batch())
        # As long as the script is there, whatever it does, no other job is being timed.
        with self.device.exclusive():
            generated.alone += self._time_alone()
            with self._opened(source, self._configuration.limits) as script:
                self._call(script, *self._batch())  # compiles, and fills caches
                while self._wants_more(said, generated):
                    self._round(script, generated, *self._batch(stream))
            generated.alone += self._time_alone()
        return generated

    def _time_alone(self) -> list[float]:
        return [self._baseline.generate(*self._batch())[1] for _ in range(ALONE)]

    def goal(self, said: Judgement) -> Goal:
        """How fast the script must be."""
        options, size = self._configuration.measure, self._configuration.spec.batch_size
        most = self._configuration.options.max_pairs
        rounds = max(options.pairs, math.ceil(options.prompts / size))
        return Goal(
            analyses=doubling(rounds, max(rounds, options.max_pairs), most),
            confidence=options.confidence,
            speedup=said.required_speedup,
            seconds_per_image=said.max_seconds_per_image,
            images=size,
        )

    def _wants_more(self, said: Judgement, generated: Generated) -> bool:
        options, goal, count = self._configuration.measure, self.goal(said), len(generated.pairs)
        if count < goal.analyses[0] or want_more(generated.pairs, options):
            return True
        return goal.wants_more(generated.fair_pairs())

    def _round(
        self, script: Sandbox, generated: Generated, prompts: list[str], seeds: list[int]
    ) -> None:
        """One call of each with the same prompts and seeds; every other round goes backwards."""
        seconds = SLACK_SECONDS + PATIENCE * max(generated.alone)
        made: dict[str, tuple[Images, float]] = {}
        for who in ("baseline", "script")[:: -1 if len(generated.pairs) % 2 else 1]:
            if who == "script":
                made[who] = self._call(script, prompts, seeds, seconds)
            else:
                made[who] = self._baseline.generate(prompts, seeds)
        generated.prompts += prompts
        generated.references.append(made["baseline"][0])
        generated.images.append(made["script"][0])
        generated.pairs.append((made["baseline"][1], made["script"][1]))
