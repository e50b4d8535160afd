"""A generated script with what it was made from, and how fast it must be."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from diffaccel.evaluation.calls import MeasureError
from diffaccel.evaluation.pairs import Goal
from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.evaluation.sequential import doubling
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.prompts import Prompt, as_json
from diffaccel.experiment.tasks import Task
from diffaccel.search.records import Answer, Search
from diffaccel.store.jsonio import digest
from diffaccel.store.source import meaning


@dataclass(frozen=True)
class Script:
    """A script and what it was made from.

    Args:
        asked: how fast its task asks it to be.
        reported: how fast it was when it was found; at least as fast as asked.
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
        cls,
        path: Path,
        found: Search,
        baseline: Baseline,
        max_pairs: int,
        heldout: Sequence[Prompt],
    ) -> Script:
        """A script of a search.

        Args:
            path: named by its task.
            max_pairs: timed pairs at most, while they do not tell whether it is fast enough.
            heldout: the prompts that nothing was chosen by.

        Raises:
            MeasureError: its task was not met.
        """
        answer = found.answer(path.stem)
        if answer is None or answer.chosen is None:
            raise MeasureError(f"{path}: the task was not met, so there is nothing to verify")
        does = _meaning(path.read_text(encoding="utf-8"))
        prompts = baseline.prompts[: answer.chosen.prompts]
        asked = goal_of(answer.task, baseline, max_pairs)
        reported = replace(asked, speedup=answer.chosen.speedup, seconds_per_image=None)
        pairs = baseline.options.pairs
        found_by = digest([does, as_json(prompts), as_json(heldout), pairs])
        return cls(path, answer, answer.chosen, asked, reported, found_by)

    @property
    def limits(self) -> tuple[Limit, ...] | None:
        """Of its task; None: those that the search was asked for."""
        return self.answer.task.limits

    @property
    def goals(self) -> tuple[Goal, Goal]:
        """As asked, and as found."""
        return self.asked, self.reported


def _meaning(source: str) -> str:
    """What code does; of what is not Python, the text itself."""
    try:
        return meaning(ast.parse(source))
    except SyntaxError:
        return source


def goal_of(task: Task, baseline: Baseline, max_pairs: int) -> Goal:
    """How fast the script of a task must be. A latency is one of seconds, whatever the
    baseline pipeline takes meanwhile."""
    options, latency = baseline.options, task.latency_s
    return Goal(
        analyses=doubling(options.pairs, options.max_pairs, max_pairs),
        confidence=options.confidence,
        speedup=task.required if latency is None else None,
        seconds_per_image=latency,
        images=baseline.images_per_call,
    )


class _Uncached(SourceFileLoader):
    """Reads the source itself, and writes no compiled file beside it: a disk that was full has left
    such a file cut off, which then failed in the script's name."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_script(script: Path) -> ModuleType:
    """A generated script as a module; its command line does not run."""
    if script.suffix != ".py":
        raise MeasureError(f"{script} is not a Python file")
    loader = _Uncached("generated_script", str(script))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None, "it has a loader"
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
