"""What an accelerator is, and how several are put on one pipeline.

Each file beside this one is one accelerator. Nothing outside such a file names an accelerator.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.space import Axis, Setting, Space, Value, nest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Call = Callable[..., Any]
Parts = Mapping[str, Mapping[str, Value]]


class UnsupportedError(ValueError):
    """An accelerator, a combination or a setting that cannot work on this pipeline; says why."""


@dataclass(frozen=True)
class PipelineFacts:
    """What search spaces and emitted code depend on, known without the weights.

    Args:
        pipeline_class: diffusers' class name, e.g. ``StableDiffusionPipeline``.
        steps: number of inference steps.
        block_layers: layers that DeepCache counts in each down block (its ResNet blocks and one
            for a downsampler), from the first block on; SD1.5 has ``(3, 3, 3, 2)``.
        transformer_downsamples: downsampling factors, relative to the latents, of the U-Net levels
            that have transformer blocks, ascending; SD1.5 has ``(1, 2, 4, 8)``.
        guided: whether classifier-free guidance runs (guidance scale above 1).
    """

    pipeline_class: str
    steps: int
    block_layers: tuple[int, ...]
    transformer_downsamples: tuple[int, ...]
    guided: bool = True


@dataclass(frozen=True)
class Emitted:
    """Python source that a user would write to apply an accelerator to a pipeline named ``pipe``.

    Args:
        imports: import statements, one each.
        enter: lines that apply it.
        leave: lines that take it off again and leave the pipeline as it was.
        call: the expression to call instead of ``pipe``.
        arguments: keyword arguments that this call takes on top, as source, e.g.
            ``(("gate_step", "10"),)``.
    """

    imports: tuple[str, ...]
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    call: str = "pipe"
    arguments: tuple[tuple[str, str], ...] = ()


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
    joins: ClassVar[tuple[str, ...]] = ()
    """Accelerators that this one applies itself, with their parameters, when both are present."""

    @abstractmethod
    def axes(self, facts: PipelineFacts) -> tuple[Axis, ...]:
        """The search space on such a pipeline; names are fields of ``Params``."""

    @abstractmethod
    def supports(self, facts: PipelineFacts) -> tuple[bool, str]:
        """Whether it can work on such a pipeline, and if not, why."""

    def forbids(self, own: Mapping[str, Value], others: Parts) -> str | None:
        """Why these parameters cannot go with the others', or None. Declared on one side only."""
        return None

    @abstractmethod
    def applied(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts
    ) -> AbstractContextManager[Call]:
        """Applies it within a ``with`` block and gives what to call in place of ``pipe``.

        On leaving the block the pipeline is bit for bit what it was. ``others`` are the settings
        of the other accelerators of the combination, of which this one applies those in ``joins``.
        """

    @abstractmethod
    def emit(self, own: Mapping[str, Value], others: Parts, facts: PipelineFacts) -> Emitted:
        """The source of the same."""


@dataclass(frozen=True)
class Combination:
    """One accelerator or several together, in the order in which they are applied."""

    members: tuple[Accelerator, ...]

    @classmethod
    def of(cls, accelerators: Sequence[Accelerator]) -> Combination:
        """A combination in canonical order.

        Raises:
            UnsupportedError: none is given, or one is given twice.
        """
        names = [accelerator.name for accelerator in accelerators]
        if not names or len(set(names)) != len(names):
            raise UnsupportedError(f"need different accelerators, one at least; got {names}")
        return cls(tuple(sorted(accelerators, key=lambda member: member.order)))

    @property
    def names(self) -> tuple[str, ...]:
        """Short names, sorted alphabetically as in keys."""
        return tuple(sorted(member.name for member in self.members))

    @property
    def slug(self) -> str:
        """Name in paths, e.g. ``deepcache+tgate``."""
        return "+".join(self.names)

    @property
    def title(self) -> str:
        """Name in tasks, e.g. ``DeepCache, T-Gate, and ToMe``."""
        titles = [member.title for member in self.members]
        if len(titles) < 3:
            return " and ".join(titles)
        return ", ".join(titles[:-1]) + f", and {titles[-1]}"

    def supports(self, facts: PipelineFacts) -> tuple[bool, str]:
        """Whether every member can work on such a pipeline, and if not, why."""
        for member in self.members:
            ok, reason = member.supports(facts)
            if not ok:
                return False, f"{member.title}: {reason}"
        return True, ""

    def forbids(self, setting: Setting) -> str | None:
        """Why this setting cannot work, or None: each member's bounds, then what they say of
        each other."""
        for member in self.members:
            own = setting[member.name]
            try:
                member.Params(**own)
            except (TypeError, ValueError) as error:
                return f"{member.title}: {error}"
            others = {name: part for name, part in setting.items() if name != member.name}
            if (reason := member.forbids(own, others)) is not None:
                return f"{member.title}: {reason}"
        return None

    def space(self, facts: PipelineFacts) -> Space:
        """The joint search space; axes are named ``accelerator.parameter``."""
        axes = tuple(
            dataclasses.replace(axis, name=f"{member.name}.{axis.name}")
            for member in self.members
            for axis in member.axes(facts)
        )
        return Space(axes, lambda point: self.forbids(nest(point)))

    def _check(self, setting: Setting) -> None:
        if sorted(setting) != list(self.names):
            raise UnsupportedError(f"a setting for {list(self.names)} names {sorted(setting)}")
        if (reason := self.forbids(setting)) is not None:
            raise UnsupportedError(reason)

    def _applying(self) -> Iterator[Accelerator]:
        joined = {name for member in self.members for name in member.joins}
        return (member for member in self.members if member.name not in joined)

    @contextmanager
    def applied(self, pipe: DiffusionPipeline, setting: Setting) -> Iterator[Call]:
        """Applies all members within a ``with`` block; gives what to call in place of ``pipe``.

        Raises:
            UnsupportedError: the setting is incomplete, out of bounds, or cannot work.
        """
        self._check(setting)
        call: Call = pipe
        with ExitStack() as stack:
            for member in self._applying():
                others = {name: part for name, part in setting.items() if name != member.name}
                entered = stack.enter_context(member.applied(pipe, setting[member.name], others))
                call = entered if entered is not pipe else call
            yield call

    def emit(self, setting: Setting, facts: PipelineFacts) -> tuple[Emitted, ...]:
        """The source of the same, one part an accelerator, in the order of application.

        Raises:
            UnsupportedError: the setting is incomplete, out of bounds, or cannot work.
        """
        self._check(setting)
        return tuple(
            member.emit(
                setting[member.name],
                {name: part for name, part in setting.items() if name != member.name},
                facts,
            )
            for member in self._applying()
        )
