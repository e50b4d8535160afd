"""Sees, beside the script in its sandbox, what the images really come from.

As `inside`, this file is run there by itself. It wraps the classes of diffusers before the script
is read: whatever a script calls goes through them. That no script lays hands on these classes or on
what is wrapped round them is what the static stage sees to.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Call:
    """What a call of the pipeline did."""

    def __init__(self) -> None:
        self.steps = 0
        self.unguided = 0
        self.narrowest = 64
        self.problem = ""
        self.images: list[bytes] = []


class Witness:
    """Watches calls of the pipeline.

    Args:
        wanted: ``pipeline`` and ``scheduler``: names of their classes; ``through``: names of
            methods that generate in place of the pipeline itself; ``steps``; ``guided``: whether
            guidance is on; ``bits``: of the numbers that are computed with, at least; perhaps
            ``scheduler_options``, what the scheduler's configuration has to say.
    """

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        import diffusers

        self._wanted = wanted
        self._calls: list[Call] = []
        self._now: Call | None = None
        self._pipe: Any = None
        kind = getattr(diffusers, wanted["pipeline"])
        kind.__call__ = self._watched(kind.__call__)
        for name in wanted["through"]:
            setattr(kind, name, Method(name, self._watched))
        sampler = getattr(diffusers, wanted["scheduler"])
        sampler.step = self._counted(sampler.step)

    def begin(self) -> None:
        """What was called before does not count."""
        self._calls.clear()

    def problem(self, images: Sequence[bytes]) -> str:
        """Why images are not those of calls that did what was asked, or nothing."""
        for call in self._calls:
            if call.problem:
                return call.problem
        given = Counter(image for call in self._calls for image in call.images)
        strange = (Counter(images) - given).total()
        if not strange:
            return ""
        return (
            f"{strange} of {len(images)} images are none that a call of the pipeline gave: return "
            "them as they come from it"
        )

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            before = self._now, self._pipe
            seen = Call()
            self._now, self._pipe = seen, pipe
            try:
                result = function(pipe, *args, **kwargs)
            finally:
                self._now, self._pipe = before
            weights = (each for each in pipe.unet.parameters() if each.is_floating_point())
            self._note_width(seen, *weights)
            seen.problem = self._problem(seen, pipe)
            seen.images = as_bytes(result[0])
            self._calls.append(seen)
            return result

        return call

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def step(sampler: Any, output: Any, *args: Any, **kwargs: Any) -> Any:
            seen, pipe = self._now, self._pipe
            if seen is not None and sampler is pipe.scheduler:
                # Of tensors nothing is read but their kind: a GPU would have to be waited for.
                seen.steps += 1
                seen.unguided += not pipe.do_classifier_free_guidance
                self._note_width(seen, output)
            return function(sampler, output, *args, **kwargs)

        return step

    def _note_width(self, seen: Call, *tensors: Any) -> None:
        for each in tensors:
            seen.narrowest = min(seen.narrowest, 8 * each.element_size())

    def _problem(self, seen: Call, pipe: Any) -> str:
        """What a call did that was not asked for, or nothing."""
        steps = self._steps(pipe.scheduler)
        if seen.steps != steps:
            return (
                f"a call of the pipeline took {seen.steps} steps of {self._wanted['scheduler']}; "
                f"asked for are {steps}"
            )
        if self._wanted["guided"] and seen.unguided:
            return (
                f"{seen.unguided} of {steps} steps are without guidance: guidance_scale must be "
                "above 1, as the baseline pipeline's is"
            )
        for name, value in self._wanted.get("scheduler_options", {}).items():
            if (found := pipe.scheduler.config.get(name)) != value:
                return (
                    f"the {self._wanted['scheduler']} has {name}={found!r}; asked for is {value!r}"
                )
        if seen.narrowest < self._wanted["bits"]:
            return (
                f"it computes with numbers of {seen.narrowest} bits; the baseline pipeline's have "
                f"{self._wanted['bits']}"
            )
        return ""

    def _steps(self, sampler: Any) -> int:
        """How often one like it is called for the steps that were asked for: some samplers take
        more than one call a step."""
        fresh = type(sampler).from_config(sampler.config)
        fresh.set_timesteps(self._wanted["steps"])
        return len(fresh.timesteps)


class Method:
    """A method that is set on a pipeline, watched whenever it is called.

    Args:
        name: of the method.
        watched: gives a watched function, which takes the pipeline first.
    """

    def __init__(self, name: str, watched: Callable[..., Callable[..., Any]]) -> None:
        self._name, self._watched = name, watched

    def __get__(self, pipe: Any, kind: type | None = None) -> Any:
        if pipe is None or self._name not in vars(pipe):
            raise AttributeError(self._name)
        method = vars(pipe)[self._name]

        def function(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return functools.partial(self._watched(function), pipe)

    def __set__(self, pipe: Any, value: Any) -> None:
        vars(pipe)[self._name] = value

    def __delete__(self, pipe: Any) -> None:
        del vars(pipe)[self._name]


def as_bytes(images: Any) -> list[bytes]:
    """The pixels of what a pipeline gives: PIL images, or arrays or tensors of numbers from 0 to 1,
    of which bytes may be made by rounding or by cutting off."""
    if isinstance(images, list):
        return [each.convert("RGB").tobytes() for each in images]
    if hasattr(images, "permute"):
        images = images.permute(0, 2, 3, 1).float().cpu().numpy()
    scaled = images * 255
    made = [*scaled.round().astype("uint8"), *scaled.astype("uint8")]
    return [each.tobytes() for each in made]
