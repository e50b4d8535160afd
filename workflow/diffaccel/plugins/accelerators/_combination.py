"""How several accelerators are put on one pipeline."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffaccel.plugins.accelerators._pipeline import PipelineSpec
from diffaccel.plugins.accelerators._unpatched import unpatched
from diffaccel.plugins.accelerators.base import Accelerator, Call, Emitted, UnsupportedError
from diffaccel.plugins.space import Axis, Parameters, Space, Value, nest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def _check_types(params: Any) -> None:
    """Raises TypeError where a parameter is not of the number type that its field says."""
    for field in dataclasses.fields(params):
        value, kind = getattr(params, field.name), str(field.type)
        if type(value).__name__ not in ({"float", "int"} if kind == "float" else {kind}):
            raise TypeError(f"{field.name} must be of type {kind}, got {value!r}")


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

    @functools.cached_property
    def conflict(self) -> str | None:
        """Why these accelerators cannot go together, whatever their parameters, or None."""
        for member in self.members:
            others = [name for name in self.names if name != member.name]
            if (reason := member.conflicts(others)) is not None:
                return f"{member.title}: {reason}"
        return None

    def changing(self, pipeline: PipelineSpec) -> int:
        """How many members do not the same at every step, at their most aggressive."""
        found = 0
        for member in self.members:
            own = {axis.name: axis.values[-1] for axis in member.axes(pipeline)}
            found += len(set(member.step_kinds(own, {}, pipeline))) > 1
        return found

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        """Whether all members go together and can work on such a pipeline, and if not, why."""
        if self.conflict is not None:
            return False, self.conflict
        for member in self.members:
            ok, reason = member.supports(pipeline)
            if not ok:
                return False, f"{member.title}: {reason}"
        return True, ""

    def forbids(self, parameters: Parameters) -> str | None:
        """Why this candidate cannot work, or None: whether the members go together, each member's
        bounds, then what they say of each other."""
        if self.conflict is not None:
            return self.conflict
        for member in self.members:
            own = parameters[member.name]
            try:
                _check_types(member.Params(**own))
            except (TypeError, ValueError) as error:
                return f"{member.title}: {error}"
            others = {name: part for name, part in parameters.items() if name != member.name}
            if (reason := member.forbids(own, others)) is not None:
                return f"{member.title}: {reason}"
        return None

    def space(self, pipeline: PipelineSpec) -> Space:
        """The joint search space; axes are named ``accelerator.parameter``."""

        def forbids(point: Mapping[str, Value]) -> str | None:
            parameters = nest(point)
            return self.forbids(parameters) or self._excludes(parameters, pipeline)

        axes = tuple(
            Axis(f"{member.name}.{axis.name}", axis.values, axis.grid)
            for member in self.members
            for axis in member.axes(pipeline)
        )
        return Space(axes, forbids)

    def _excludes(self, parameters: Parameters, pipeline: PipelineSpec) -> str | None:
        for member in self.members:
            if (reason := member.excludes(parameters[member.name], pipeline)) is not None:
                return f"{member.title}: {reason}"
        return None

    def _check(self, parameters: Parameters) -> None:
        if sorted(parameters) != list(self.names):
            raise UnsupportedError(f"a candidate for {list(self.names)} names {sorted(parameters)}")
        if (reason := self.forbids(parameters)) is not None:
            raise UnsupportedError(reason)

    def _applying(self) -> Iterator[Accelerator]:
        joined = {name for member in self.members for name in member.joins}
        return (member for member in self.members if member.name not in joined)

    @contextmanager
    def applied(self, pipe: DiffusionPipeline, parameters: Parameters) -> Iterator[Call]:
        """Applies all members within a ``with`` block; gives what to call in place of ``pipe``.

        On leaving the block the pipeline is what it was before: whatever is set on it or on its
        modules inside is undone. A block within a block starts from the baseline pipeline, so that
        applying twice is applying once. Not for several threads on one pipeline.

        Raises:
            UnsupportedError: the candidate is incomplete, out of bounds, or cannot work.
        """
        self._check(parameters)
        with unpatched(pipe):
            call: Call = pipe
            for member in self._applying():
                others = {name: part for name, part in parameters.items() if name != member.name}
                entered = member.apply(pipe, parameters[member.name], others)
                call = entered if entered is not pipe else call
            for member in self._applying():
                others = {name: part for name, part in parameters.items() if name != member.name}
                call = member.finish(pipe, parameters[member.name], others, call)
            yield call

    def emit(self, parameters: Parameters, pipeline: PipelineSpec) -> tuple[Emitted, ...]:
        """The source of the same, one part an accelerator, in the order of application.

        Raises:
            UnsupportedError: the candidate is incomplete, out of bounds, or cannot work.
        """
        self._check(parameters)
        return tuple(
            member.emit(
                parameters[member.name],
                {name: part for name, part in parameters.items() if name != member.name},
                pipeline,
            )
            for member in self._applying()
        )
