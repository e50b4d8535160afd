"""A recipe: what was found for a configuration, as one small file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.experiment.prompts import Prompt
from diffaccel.plugins import sources
from diffaccel.plugins.models._spec import Lora, TextualInversion, place_of
from diffaccel.plugins.schedulers import SchedulerSpec, scheduler_named
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import (
    BEFORE,
    CHECKSUM,
    UNSAID,
    UNSET,
    read_fields,
    read_record,
    to_json,
)

log = logging.getLogger(__name__)
A = TypeVar("A", Lora, TextualInversion)


class RecipeError(InputError):
    """A recipe that is not whole, or cannot be put on this pipeline; says why."""


def recipe_of(baseline: Baseline, measured: Measurement) -> Recipe:
    """The recipe of a candidate that was measured against a baseline."""
    spec, configuration = baseline.spec, baseline.configuration
    return Recipe(
        model=configuration.model,
        family=spec.family,
        source=None if sources.is_local(spec.source) else spec.source,
        scheduler=configuration.scheduler,
        own_scheduler=configuration.own_scheduler,
        steps=configuration.steps,
        guidance_scale=spec.guidance_scale,
        height=spec.height,
        width=spec.width,
        batch_size=baseline.images_per_call,
        parameters=measured.parameters,
        speedup=measured.speedup,
        loss=measured.loss,
        loss_interval=measured.loss_interval,
        confidence=baseline.options.confidence,
        means=measured.means,
        prompts=baseline.prompts[: measured.prompts],
        seed=baseline.options.seed,
        environment=baseline.environment,
        date=measured.date,
        lora=tuple(_shared(each) for each in spec.lora),
        fused=spec.fused,
        textual_inversion=tuple(_shared(each) for each in spec.textual_inversion),
        negative_prompt=spec.negative_prompt,
        clip_skip=spec.clip_skip,
        guidance_rescale=spec.guidance_rescale,
        task=spec.task,
        strength=spec.strength,
        controlnet=_elsewhere(spec.controlnet),
        controlnet_scale=spec.controlnet_scale,
        limits=tuple(measured.used),
    )


def _elsewhere(source: str | None) -> str | None:
    """What names a network where its path says nothing: of a folder, its name."""
    return Path(source).name if source and sources.is_local(source) else source


def _shared(addition: A) -> A:
    """An addition without its path, which says nothing elsewhere: by its file's name alone."""
    if not sources.is_local(addition.source):
        return addition
    return replace(addition, source=Path(place_of(addition)).name, weight_name=None)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Args:
        path: a JSON file, as ``diffaccel recommend --out`` writes it.

    Raises:
        RecordError: the file is missing, not JSON, lacks a field or is of another schema version.
        RecipeError: it has a field or a type that no recipe has.
    """
    recipe = read_record(Recipe, path)
    given, own = read_fields(path), to_json(recipe)
    strange = [
        name
        for name in given
        if name not in ("schema", CHECKSUM, BEFORE) and given[name] != own.get(name)
    ]
    if strange:
        name = strange[0]
        raise RecipeError(
            f"{path}: {name}: {given[name]!r} is not what a recipe has there; its fields are "
            f"{', '.join(own)}"
        )
    return recipe


@dataclass(frozen=True)
class Recipe:
    """A candidate that was found, with what it was found on: one small file to share.

    Args:
        family: of the model; the candidate can be put on any of it.
        source: hub id of the model, with its commit; None where it was a folder or a file, whose
            path says nothing elsewhere.
        height, width, guidance_scale: of the calls that were measured, as are ``batch_size`` and
            ``seed``, that of the first prompt.
        loss_interval: at ``confidence``, over the prompts.
        means: mean per metric, by name.
        environment: where it was measured; it works elsewhere, but is not as fast there.
        own_scheduler: what the scheduler's name stands for, where whoever measured it said so.
        lora, fused, textual_inversion: what the model had on top, as of a `ModelSpec`; of what was
            a local file, its name. Whoever applies the recipe loads it.
        negative_prompt, clip_skip, guidance_rescale: of the calls that were measured.
        task: what the pipeline is for, as of a `ModelSpec`; None: text-to-image.
        strength, controlnet_scale: of the calls that were measured.
        controlnet: that the pipeline had; of a folder, its name.
        limits: what it was asked to keep beside the loss limit, in words.
    """

    model: str
    family: str
    source: str | None
    scheduler: str
    steps: int
    guidance_scale: float
    height: int
    width: int
    batch_size: int
    parameters: ParametersDict
    speedup: float
    loss: float
    loss_interval: tuple[float, float]
    confidence: float
    means: dict[str, float]
    prompts: list[Prompt]
    seed: int
    environment: Environment
    date: str
    own_scheduler: Annotated[SchedulerSpec | None, UNSAID] = None
    lora: Annotated[tuple[Lora, ...], UNSAID] = ()
    fused: Annotated[bool, UNSET] = False
    textual_inversion: Annotated[tuple[TextualInversion, ...], UNSAID] = ()
    negative_prompt: Annotated[str | None, UNSAID] = None
    clip_skip: Annotated[int | None, UNSAID] = None
    guidance_rescale: Annotated[float | None, UNSAID] = None
    task: Annotated[str | None, UNSAID] = None
    strength: Annotated[float | None, UNSAID] = None
    controlnet: Annotated[str | None, UNSAID] = None
    controlnet_scale: Annotated[float | None, UNSAID] = None
    limits: Annotated[tuple[str, ...], UNSAID] = ()

    @property
    def limits_in_words(self) -> list[str]:
        """Each limit, and the mean that was measured."""
        means = [self.means.get(words.split(" ", 1)[0]) for words in self.limits]
        return [
            words if mean is None else f"{words}: measured {mean:.4g}"
            for words, mean in zip(self.limits, means, strict=True)
        ]

    @property
    def sampler(self) -> SchedulerSpec:
        """What its scheduler's name stands for.

        Raises:
            UnknownNameError: nothing that is known here.
        """
        return self.own_scheduler or scheduler_named(self.scheduler)
