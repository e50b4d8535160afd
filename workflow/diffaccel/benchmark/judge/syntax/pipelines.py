"""Pipelines: how they are loaded, what is done with them, and when they generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffaccel.benchmark.judge.syntax.known import PIPE, Known
from diffaccel.benchmark.judge.syntax.values import (
    OWN,
    UNKNOWN,
    Arguments,
    Made,
    Pipeline,
    Thing,
    Value,
    options,
)
from diffaccel.benchmark.judge.syntax.ways import Ways

GENERAL = ("DiffusionPipeline", "AutoPipelineForText2Image")
"""Classes that load a pipeline of whatever class the model says."""
PIPELINES = ("Pipeline", *GENERAL)
"""How names of classes end that are pipelines."""


@dataclass(frozen=True)
class Generation:
    """A call of a pipeline.

    Args:
        kind: class of the pipeline.
        source: what it was loaded from.
        scheduler: what it samples with.
        arguments: of the call.
        done: what was called with this pipeline before, by path, each with the calls that it may
            have been; an assignment ends in ``=``.
        through: name of the method that was called, or empty where it was the pipeline itself.
        line: in the source.
    """

    kind: str
    source: Value
    scheduler: Value
    arguments: Arguments
    done: Mapping[str, Sequence[Made]]
    through: str
    line: int


def plain(path: str) -> str:
    """A path as after ``from package import Name``: submodules before a class are left out."""
    first, *rest = path.split(".")
    while len(rest) > 1 and rest[0].islower() and any(not part.islower() for part in rest[1:]):
        rest = rest[1:]
    return ".".join([first, *rest])


def imported(path: str) -> Thing:
    """What an import gives; nothing that could be taken for a pipeline."""
    return UNKNOWN if path.split(".")[0] == PIPE else Thing(plain(path))


class Pipelines(Ways):
    """Keeps what becomes of each pipeline."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self._known = known
        self._pipelines: dict[int, Pipeline] = {}
        self.generations: list[Generation] = []
        """Calls of pipelines, in the order in which they were reached."""

    def _load(self, kind: str, arguments: Arguments) -> Value:
        number = self._number()
        names = ("pretrained_model_name_or_path", "pretrained_model_link_or_path")
        named = next((arguments.named[name] for name in names if name in arguments.named), None)
        first = arguments.positional[0] if arguments.positional else UNKNOWN
        source = named or first
        if isinstance(first, Pipeline):  # from_pipe
            source = self._state.get(("source", first.number), UNKNOWN)
        scheduler = arguments.named.get("scheduler") or (UNKNOWN if arguments.open else OWN)
        self._state[("source", number)] = source
        self._state[("attribute", number, "scheduler")] = scheduler
        self._pipelines[number] = Pipeline(number, kind)
        return self._pipelines[number]

    def _note(self, path: str, about: frozenset[int], arguments: Arguments | None = None) -> None:
        """Something was called, or assigned, with these pipelines; without any, it may be all."""
        if not path:
            return
        numbers = about or frozenset([0])
        for number in numbers:
            self._state[("done", path, number)] = Made(arguments or Arguments(), self._line)
        for undone in self._known.undone_by.get(path, ()):
            for number in numbers:
                self._state.pop(("done", undone, number), None)

    def _generate(self, pipeline: Pipeline, through: str, arguments: Arguments) -> Value:
        number = pipeline.number
        self._charge(1 + len(self._state) // 10)
        done = {
            key[1]: [each for each in options(value) if isinstance(each, Made)]
            for key, value in self._state.items()
            if key[0] == "done" and key[2] in (number, 0)
        }
        self.generations.append(
            Generation(
                kind=pipeline.kind,
                source=self._state.get(("source", number), UNKNOWN),
                scheduler=self._state.get(("attribute", number, "scheduler"), UNKNOWN),
                arguments=arguments,
                done=done,
                through=through,
                line=self._line,
            )
        )
        return Thing("", frozenset())
