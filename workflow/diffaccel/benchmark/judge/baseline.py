"""The baseline pipeline that scripts are judged beside, in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from diffaccel.benchmark.judge.protocol import Disturbed, Failed
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.evaluation.calls import MeasureError
from diffaccel.plugins.metrics.base import Images

Generate = Callable[[Sandbox, list[str], list[int]], tuple[Images, float]]


class BaselineProcess:
    """Called again and again. Where it fails, its process is ended at once, and a new one is made
    when it is asked for again. That it fails is never held against a script.

    Args:
        opened: a process with the baseline pipeline loaded.
        generate: images of prompts and seeds by a process, and the seconds that they took.
    """

    def __init__(
        self, opened: Callable[[], AbstractContextManager[Sandbox]], generate: Generate
    ) -> None:
        self._opened, self._generate = opened, generate
        self._process: Sandbox | None = None
        self._stack = contextlib.ExitStack()

    def ready(self, prompts: list[str], seeds: list[int]) -> None:
        """Has it loaded, and called once with these.

        Raises:
            MeasureError: it cannot be.
        """
        if self._process is not None:
            return
        try:
            self._process = self._stack.enter_context(self._opened())
            self._generate(self._process, prompts, seeds)
        except (Failed, Disturbed) as error:
            self.close()
            raise MeasureError(f"the baseline pipeline cannot be run: {error}") from None

    def generate(self, prompts: list[str], seeds: list[int]) -> tuple[Images, float]:
        """Images of prompts and seeds, and the seconds that they took.

        Raises:
            Disturbed: it could not generate, though it could before.
        """
        if self._process is None:
            raise Disturbed("the baseline pipeline has ended")
        try:
            return self._generate(self._process, prompts, seeds)
        except (Failed, Disturbed) as error:
            self.close()
            raise Disturbed(f"the baseline pipeline could not generate: {error}") from None

    def close(self) -> None:
        """Ends its process, which then holds neither memory nor a GPU."""
        self._process = None
        self._stack.close()
