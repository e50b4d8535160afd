"""What an accelerator is, and how several are put on one pipeline.

Each file beside this one is one accelerator. Nothing outside such a file names an accelerator.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from diffaccel.plugins.accelerators._unpatched import unpatched
from diffaccel.plugins.pipeline_tasks import steps_run, task_of
from diffaccel.plugins.sizes import height_and_width
from diffaccel.plugins.space import Axis, Parameters, Space, Value, nest
from diffaccel.store.jsonio import UNSAID

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Call = Callable[..., Any]
Parts = Mapping[str, Mapping[str, Value]]


class UnsupportedError(ValueError):
    """An accelerator, a combination or a candidate that cannot work on this pipeline; says why."""


@dataclass(frozen=True)
class PipelineSpec:
    """What search spaces and emitted code depend on, known without the weights.

    Args:
        pipeline_class: diffusers' class name, e.g. ``StableDiffusionPipeline``.
        steps: number of inference steps.
        block_layers: layers that DeepCache counts in each down block (its ResNet blocks and one
            for a downsampler), from the first block on; SD1.5 has ``(3, 3, 3, 2)``.
        transformer_downsamples: downsampling factors, relative to the latents, of the U-Net levels
            that have transformer blocks, ascending; SD1.5 has ``(1, 2, 4, 8)``.
        guided: whether classifier-free guidance runs (guidance scale above 1).
        latent_size: height and width of the latents that the U-Net is made for; one number where
            they are the same.
        device: torch's name of the kind of device that it is on.
        order: calls of the U-Net for a step of its scheduler; the last step has one.
        extra: calls on top of these, before all others.
        same_time: for each call, the first call at the same time of the noise schedule, counted
            from that of the first call; empty where all calls have times of their own.
        generated: height and width of the latents that are generated; None where nobody knows, as
            in records of before: it is taken to be ``latent_size``.
        middle_block: whether the U-Net has a middle block.
        strength: share of the steps, the last ones, that are run; None: all.
    """

    pipeline_class: str
    steps: int
    block_layers: tuple[int, ...]
    transformer_downsamples: tuple[int, ...]
    guided: bool = True
    latent_size: int | tuple[int, int] = 64
    device: str = "cpu"
    order: int = 1
    extra: int = 0
    same_time: tuple[int, ...] = ()
    generated: tuple[int, int] | None = None

    middle_block: bool = True
    strength: Annotated[float | None, UNSAID] = None

    @property
    def latent_sides(self) -> tuple[int, int]:
        """Height and width of the latents that the U-Net is made for."""
        size = self.latent_size
        return (size, size) if isinstance(size, int) else size

    @property
    def calls(self) -> int:
        """How often the U-Net is called."""
        return self.calls_in(self.steps)

    def calls_in(self, steps: int) -> int:
        """The same in another number of steps; none where nothing is left of these."""
        left = self.run_of(steps)
        return self.order * left - (self.order - 1) + self.extra if left else 0

    @property
    def steps_run(self) -> int:
        """How many of the steps are run."""
        return self.run_of(self.steps)

    def run_of(self, steps: int) -> int:
        """The same of another number of steps."""
        return steps_run(steps, self.strength)

    def relative_cost(self, unet: float) -> float:
        """What is left of the time of a step where so much is left of the U-Net's: what runs beside
        it, a ControlNet, takes as long as ever."""
        task = task_of(self.pipeline_class)
        beside = task.beside if task else 0.0
        return (unet + beside) / (1 + beside)

    @property
    def first_at_time(self) -> tuple[int, ...]:
        """For each call, the first one at the same time."""
        return self.same_time or tuple(range(self.calls))

    @classmethod
    def of(
        cls,
        pipe: DiffusionPipeline,
        *,
        steps: int,
        guidance_scale: float,
        size: tuple[int, int] | None = None,
        strength: float | None = None,
    ) -> PipelineSpec:
        """That of a loaded pipeline; of one without a U-Net, that it has no blocks.

        Args:
            size: height and width of the images, in pixels; None: those that it is made for.
            strength: share of the steps that are run; None: all.
        """
        unet, vae = (
            {} if (part := getattr(pipe, name, None)) is None else part.config
            for name in ("unet", "vae")
        )
        pipeline = cls.of_config(
            type(pipe).__name__,
            unet,
            steps=steps,
            guidance_scale=guidance_scale,
            size=size,
            vae=vae,
        )
        times = _times(pipe, steps)
        order = getattr(pipe.scheduler, "order", 1)
        left_out = order * (steps - steps_run(steps, strength))
        # As a pipeline finds them among all times, also where the first of these is left out.
        found = [times.index(time) for time in times][left_out:]
        first = tuple(place - found[0] for place in found)
        return dataclasses.replace(
            pipeline,
            device=pipe.device.type,
            order=order,
            extra=len(times) - (order * steps - (order - 1)) if times else 0,
            same_time=() if first == tuple(range(len(first))) else first,
            strength=strength,
        )

    @classmethod
    def of_config(
        cls,
        pipeline_class: str,
        unet: Mapping[str, Any],
        *,
        steps: int,
        guidance_scale: float,
        size: tuple[int, int] | None = None,
        vae: Mapping[str, Any] | None = None,
        strength: float | None = None,
    ) -> PipelineSpec:
        """The same from ``unet/config.json`` and, for the size, ``vae/config.json`` alone.

        A UNet2DConditionModel's level i works at 1/2**i of the latents' size, has a downsampler
        unless it is the last, and has transformer blocks where its block type says CrossAttn. An
        AutoencoderKL halves an image's height and width between two blocks.
        """
        kinds = tuple(unet.get("down_block_types", ()))
        layers = unet.get("layers_per_block", 2)
        per_block = [layers] * len(kinds) if isinstance(layers, int) else list(layers)
        levels = {2**i for i, kind in enumerate(kinds) if "CrossAttn" in kind}
        middle = unet.get("mid_block_type", "UNetMidBlock2DCrossAttn")
        if kinds and "CrossAttn" in (middle or ""):
            levels.add(2 ** (len(kinds) - 1))
        height, width = height_and_width(unet.get("sample_size")) or (64, 64)
        return cls(
            pipeline_class=pipeline_class,
            steps=steps,
            block_layers=tuple(n + (i < len(kinds) - 1) for i, n in enumerate(per_block)),
            transformer_downsamples=tuple(sorted(levels)),
            # A distilled U-Net takes the scale as an input and is never run twice.
            guided=guidance_scale > 1 and unet.get("time_cond_proj_dim") is None,
            latent_size=height if height == width else (height, width),
            generated=_latents(size, vae or {}),
            middle_block=middle is not None,
            strength=strength,
        )

    def tokens(self, downsample: int) -> tuple[int, int]:
        """Rows and columns of the tokens at a downsampling of the latents that are generated: a
        downsampler rounds up."""
        height, width = self.generated or self.latent_sides
        return math.ceil(height / downsample), math.ceil(width / downsample)


def _latents(size: tuple[int, int] | None, vae: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the latents of images of that many pixels."""
    blocks = vae.get("block_out_channels")
    if size is None or not blocks:
        return None
    factor = 2 ** (len(blocks) - 1)
    return size[0] // factor, size[1] // factor


def _times(pipe: DiffusionPipeline, steps: int) -> list[float]:
    """The times at which so many steps call the U-Net; the pipeline's scheduler stays as it is."""
    if steps < 1:
        return []
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps)
    times: list[float] = scheduler.timesteps.tolist()
    return times


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
