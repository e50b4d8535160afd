"""Calling the pipeline under test on batches of prompts, as it is or with a candidate put on.

`Bench` holds all that a call needs. Only this file takes the time; what the seconds of calls say
of the speed is the business of `diffaccel.evaluation.timing`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from diffaccel.errors import InputError
from diffaccel.evaluation.failures import Blamed, failure_of, free_memory, is_out_of_memory
from diffaccel.evaluation.pairs import Goal
from diffaccel.evaluation.records import Usage
from diffaccel.evaluation.usage import Meter
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import (
    Prompt,
    as_line,
    negatives_of,
    seeds_of,
    subjects_of,
    texts_of,
)
from diffaccel.machine.devices import Device
from diffaccel.machine.watch import PLAIN, Failure, Watch
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.metrics import METRICS
from diffaccel.plugins.metrics.base import Compute, Images
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.pipeline_tasks import SETTINGS, Input, fitted
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)


class Generate(Protocol):
    """From prompts and seeds to PIL images; negative prompts are told only where there are any, and
    so are the images that prompts come with: ``images``, ``masks``."""

    def __call__(
        self,
        prompts: list[str],
        seeds: list[int],
        /,
        *,
        negative_prompts: list[str] | None = None,
        **inputs: list[Any],
    ) -> Sequence[Any]: ...


Applied = Callable[[], AbstractContextManager[Generate]]
"""Puts an accelerator on, gives what to call, and takes it off again."""
T = TypeVar("T")


class MeasureError(InputError):
    """A measurement that would mean nothing; says why."""


@dataclass(frozen=True)
class Candidate:
    """A candidate, and what puts it on.

    Args:
        warm: whether this process called it before, so that nothing is left to prepare.
        prompts: how many it is evaluated with; None: with all that there are.
        goals: how fast it must be, of all that is to become clear.
        short: whether few pairs are enough, however much they differ.
    """

    parameters: ParametersDict
    applied: Applied
    warm: bool = False
    prompts: int | None = None
    goals: tuple[Goal, ...] = ()
    short: bool = False


@dataclass(frozen=True)
class Called:
    """One call of a pipeline.

    Args:
        seconds: of the call itself.
        whole: with the putting on and taking off of accelerators.
        size: how many images it generated at once: fewer than it was asked for where there was not
            enough memory, so that it is several calls, one after the other.
        usage: what else it took.
    """

    images: Images
    seconds: float
    whole: float
    size: int
    usage: Usage


@dataclass(frozen=True)
class Bench:
    """A loaded pipeline with its prompts and metrics: everything a measurement needs.

    Args:
        pipe: the baseline pipeline with its scheduler set.
        prompts: of the whole prompt set; prompt i is generated with seed ``options.seed + i``,
            unless it has its own.
        device: all work on it is done within its ``shared`` or ``exclusive``.
        metrics: by name.
        watch: told of every call, and ends those that hang.
    """

    pipe: DiffusionPipeline
    configuration: Configuration
    spec: ModelSpec
    options: MeasureOptions
    prompts: Sequence[Prompt]
    device: Device
    metrics: dict[str, Compute]
    watch: Watch = field(default_factory=Watch)

    @property
    def texts(self) -> list[str]:
        """Of the prompts."""
        return texts_of(self.prompts)

    @property
    def subjects(self) -> list[str]:
        """What tells the prompts apart."""
        return subjects_of(self.prompts)

    def arguments(
        self,
        prompts: list[str],
        seeds: list[int],
        negatives: list[str] | None = None,
        inputs: Mapping[str, list[Any]] | None = None,
    ) -> dict[str, Any]:
        """Keyword arguments of a pipeline call. The noise comes from one CPU generator a prompt, so
        that it depends on neither the device nor the batch.

        Args:
            inputs: images of the prompts, as `inputs` has them.
        """
        import torch

        spec = self.spec
        asked = {
            "negative_prompt": negatives,
            "clip_skip": spec.clip_skip,
            "guidance_rescale": spec.guidance_rescale,
            **{argument: getattr(spec, key) for key, argument in SETTINGS.items()},
            **{each.argument: (inputs or {})[each.plural] for each in spec.inputs_taken},
        }
        size = {"height": spec.height, "width": spec.width}
        return {
            "prompt": prompts,
            "num_inference_steps": self.configuration.steps,
            "guidance_scale": spec.guidance_scale,
            **(size if spec.sized else {}),
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **{name: value for name, value in asked.items() if value is not None},
        }

    @property
    def pipeline(self) -> PipelineSpec:
        """What search spaces and emitted code depend on."""
        return PipelineSpec.of(
            self.pipe,
            steps=self.configuration.steps,
            guidance_scale=self.spec.guidance_scale,
            size=(self.spec.height, self.spec.width),
            strength=self.spec.strength,
        )

    def inputs(self, batch: slice) -> dict[str, list[Any]]:
        """The images that prompts come with, as large as those that are generated, by argument of
        `Generate`; empty for text-to-image."""
        spec, lines = self.spec, list(map(as_line, self.prompts[batch]))
        return {
            kind.plural: [self._fitted(getattr(line, kind.name), kind) for line in lines]
            for kind in spec.inputs_taken
        }

    def _fitted(self, name: str, kind: Input) -> Any:
        from diffusers.utils import load_image

        image = load_image(str(Path(str(self.spec.inputs), name)))
        return fitted(image, kind, self.spec.width, self.spec.height)

    def calling(self, call: Callable[..., Any]) -> Generate:
        """What generates images through ``call``, the pipeline or what stands in its place."""

        def generate(
            prompts: list[str],
            seeds: list[int],
            /,
            *,
            negative_prompts: list[str] | None = None,
            **inputs: list[Any],
        ) -> Sequence[Any]:
            arguments = self.arguments(prompts, seeds, negative_prompts, inputs)
            images: Sequence[Any] = call(**arguments).images
            return images

        return generate

    @contextlib.contextmanager
    def baseline(self) -> Iterator[Generate]:
        """The baseline pipeline, which nothing is put on."""
        yield self.calling(self.pipe)

    @contextlib.contextmanager
    def accelerated(self, parameters: ParametersDict) -> Iterator[Generate]:
        """The pipeline with the accelerators that a candidate names."""
        with combination(sorted(parameters)).applied(self.pipe, parameters) as call:
            yield self.calling(call)

    def batches(self, first: int = 0, end: int | None = None) -> list[slice]:
        """The prompts from the first on, up to the end, in batches; the last may be short."""
        end, size = len(self.prompts) if end is None else end, self.spec.batch_size
        return [slice(start, min(start + size, end)) for start in range(first, end, size)]

    def called(self, candidate: Candidate, batch: slice) -> Called:
        """Evaluates one batch with a candidate, in halves where the memory is not enough.

        Raises:
            Blamed: it ended the process before, or hung.
        """
        name = digest(candidate.parameters)
        if failure := self.watch.blamed.get(name):
            raise Blamed(failure)
        try:
            return self.call(candidate.applied, batch, name)
        except Exception as error:
            if not is_out_of_memory(error) or batch.stop - batch.start < 2:
                raise
        free_memory()
        middle = (batch.start + batch.stop) // 2
        first, second = (
            self.called(candidate, half)
            for half in (slice(batch.start, middle), slice(middle, batch.stop))
        )
        return Called(
            np.concatenate([first.images, second.images]),
            first.seconds + second.seconds,
            first.whole + second.whole,
            min(first.size, second.size),
            Usage.of([first.usage, second.usage]) or Usage(),
        )

    def failure(self, candidate: Candidate, error: Exception) -> Failure:
        """What to say of a candidate whose call raised; raises where the device is lost."""
        found = failure_of(error, self.device, self.watch, digest(candidate.parameters))
        log.warning("failed: %s: %s", candidate.parameters, found)
        return found

    def call(self, applied: Applied, batch: slice, name: str = PLAIN) -> Called:
        """Evaluates one batch.

        Args:
            name: of the candidate, for who watches.
        """
        prompts = self.texts[batch]
        seeds = seeds_of(self.prompts, self.options.seed)[batch]
        negatives = negatives_of(self.prompts, self.spec.negative_prompt)
        # What there is none of, scripts are not told.
        told: dict[str, Any] = self.inputs(batch)
        told |= {} if negatives is None else {"negative_prompts": negatives[batch]}

        meter = Meter(self.device, self.pipe)
        with self.device.shared(), self.watch.calling(name), meter.running(len(prompts)):
            start = time.perf_counter()
            with applied() as generate:
                images, seconds = timed(lambda: generate(prompts, seeds, **told), self.device.name)
            whole = time.perf_counter() - start
        arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
        return Called(arrays, seconds, whole, len(arrays), meter.usage)

    def score(
        self,
        images: Images,
        references: Images | None,
        first: int = 0,
        known: Container[str] = (),
    ) -> dict[str, list[float]]:
        """Each of the metrics that can be computed, per image.

        Args:
            first: the prompt of the first image; the others' follow it.
            known: metrics that are left out.
        """
        prompts = self.texts[first : first + len(images)]
        return {
            name: compute(images, prompts, references)
            for name, compute in self.metrics.items()
            if name not in known and (references is not None or not METRICS[name].needs_reference)
        }


def in_parts(what: str, made: Sequence[Called], batches: Sequence[slice]) -> list[str]:
    """What to say where there was not enough memory for whole batches."""
    smaller = [
        f"not enough memory for {batch.stop - batch.start} images at once: {what} {called.size} "
        "at a time"
        for called, batch in zip(made, batches, strict=True)
        if called.size < batch.stop - batch.start
    ]
    return smaller[:1]


def timed(call: Callable[[], T], device: str) -> tuple[T, float]:
    """What a call gives, and its seconds until the device has done all of it."""
    _synchronise(device)
    start = time.perf_counter()
    result = call()
    _synchronise(device)
    return result, time.perf_counter() - start


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
