"""What an accelerator is.

Each file beside this one is one accelerator. Nothing outside such a file names an accelerator.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.plugins.accelerators._pipeline import PipelineSpec
from diffaccel.plugins.space import Axis, Value

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Call = Callable[..., Any]
Parts = Mapping[str, Mapping[str, Value]]


class UnsupportedError(ValueError):
    """An accelerator, a combination or a candidate that cannot work on this pipeline; says why."""


@dataclass(frozen=True)
class Emitted:
    """Python source that a user would write to apply an accelerator to a pipeline named ``pipe``.

    Args:
        imports: import statements, one each; may repeat those of others.
        enter: lines that apply it, once for each call of the pipeline.
        leave: lines that take it off again: the pipeline then works as it did before.
        call: the expression to call instead of ``pipe``.
        arguments: keyword arguments that this call takes on top, or in place of its own, as
            source, e.g. ``(("gate_step", "10"),)``.
        last: lines that come after all that apply the others.
        definitions: classes and functions that the lines or the arguments use, for the top of the
            script.
    """

    imports: tuple[str, ...]
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    call: str = "pipe"
    arguments: tuple[tuple[str, str], ...] = ()
    last: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """One way of using an accelerator in a script, for who reads its syntax tree.

    Paths are as after ``from package import Name``; a method comes after its class, ``pipe`` is the
    pipeline, and ``=`` after a path is an assignment to it.

    Args:
        calls: all of these, with the pipeline or what was made from it, before it generates.
        undone: what takes it off again.
        through: the method of the pipeline that generates then, in place of the pipeline itself.
        told_by: path of the call that takes the parameters: the last of ``calls``, or ``pipe.`` and
            ``through``; empty where they are not told by a call.
        takes: parameters that it takes, in their order from the first argument or from the one
            after the pipeline on, each with the value that it has where nothing is said.
    """

    calls: tuple[str, ...]
    undone: tuple[str, ...] = ()
    through: str = ""
    told_by: str = ""
    takes: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class StepKind:
    """What an accelerator makes of a step: steps of one kind cost the same.

    Args:
        label: in a word; kinds of one label with near levels cost nearly the same.
        levels: how much of it, each number on a scale on which 1 is a large difference.
        relative_cost: what it is expected to leave of the time of a step of the baseline pipeline,
            before any is timed.
        spread: how far off that may be: standard deviation of the logarithm of the relative cost.
    """

    label: str
    levels: tuple[float, ...] = ()
    relative_cost: float = 0.75
    spread: float = 0.7


class Accelerator(ABC):
    """One technique. Subclasses are stateless; the instance ``PLUGIN`` of a file is the plugin."""

    name: ClassVar[str]
    """Short name, as in keys and file names."""
    title: ClassVar[str]
    """Name in tasks."""
    package: ClassVar[str]
    """Distribution whose version identifies a measurement."""
    source: ClassVar[str]
    """Where the technique is described."""
    order: ClassVar[int]
    """Place in a combination: lower is applied first, and comes first in a title."""
    Params: ClassVar[type]
    """Frozen dataclass of the parameters; raises ValueError on a value out of bounds."""
    ways: ClassVar[tuple[Way, ...]]
    """What counts as using it in a script that somebody wrote; any of them."""
    joins: ClassVar[tuple[str, ...]] = ()
    """Accelerators that this one applies itself, with their parameters, when both are present."""
    writes: ClassVar[tuple[str, ...]] = ()
    """What its lines in a script set on the pipeline (``name=``) and delete from it and its parts
    (``del name``), for who reads scripts: what sets anything else is not known."""
    tolerance: ClassVar[float] = 0.0
    """How far a value of an image (0 to 1) may be, on one CPU, from the same candidate's by the
    package's own usage or by the emitted source; 0.0: equal in every bit."""

    @abstractmethod
    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        """The search space on such a pipeline; names are fields of ``Params``."""

    @abstractmethod
    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        """Whether it can work on such a pipeline, and if not, why."""

    def conflicts(self, others: Sequence[str]) -> str | None:
        """Why it cannot go with these others, whatever the parameters, or None. Declared on one
        side only."""
        return None

    def forbids(self, own: Mapping[str, Value], others: Parts) -> str | None:
        """Why these parameters cannot go with the others', or None. Declared on one side only."""
        return None

    def excludes(self, own: Mapping[str, Value], pipeline: PipelineSpec) -> str | None:
        """Why a search on such a pipeline leaves these parameters out, or None: they cannot work
        there, or do exactly what milder ones do."""
        return None

    def idle(self, own: Mapping[str, Value], steps: int) -> str | None:
        """Why these parameters change nothing in so many steps, or None."""
        return None

    def definitions(self) -> tuple[str, ...]:
        """Source of all classes and functions that its lines may use in a script."""
        return ()

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """What these parameters make of each of ``pipeline.calls`` calls, from the first on; None:
        it is as in the baseline pipeline. From these, `diffaccel.search.speeds` predicts speeds.

        Unless an accelerator knows better, all steps are alike, and candidates are as far apart as
        their values are on the axes.
        """
        ranges = {
            axis.name: max(axis.values) - min(axis.values) or 1 for axis in self.axes(pipeline)
        }
        values = dataclasses.asdict(self.Params(**own))
        levels = tuple(float(value) / ranges.get(name, 1) for name, value in values.items())
        return (StepKind(self.name, levels),) * pipeline.calls

    @abstractmethod
    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        """Applies it to a baseline pipeline and gives what to call in place of ``pipe``.

        Nothing is to be taken off: `Combination.applied` puts the modules back as they were.
        ``others`` are the candidates of the other accelerators of the combination, of which this
        one applies those in ``joins``.

        Raises:
            UnsupportedError: this pipeline has nothing that these parameters work on.
        """

    def finish(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts, call: Call
    ) -> Call:
        """What is left to do once all accelerators are applied; gives what to call, mostly
        ``call``."""
        return call

    @abstractmethod
    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        """The source of the same."""
