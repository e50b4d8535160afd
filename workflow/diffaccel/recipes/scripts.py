"""Rendering scripts: of a candidate that was measured, and of the baseline pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.prompts import have_negatives, subjects_of
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.recipes import codegen
from diffaccel.recipes.recipe import Recipe, recipe_of
from diffaccel.search.records import Answer


class NoScriptError(InputError):
    """A task that has no script; says why."""


def keep_only(folder: Path, tasks: Collection[str]) -> None:
    """Removes the scripts of tasks that are not among these: they are not there any more, or are
    not met. Their logs go with them: a log of what is not there tells of a job that failed."""
    for path in folder.glob("*.py"):
        if path.stem not in tasks:
            path.unlink()
            for suffix in ("log", "json"):
                log = folder.parent / "logs" / folder.name / f"{path.stem}.{suffix}"
                log.unlink(missing_ok=True)


def script(answer: Answer, baseline: Baseline) -> str:
    """Source of the script that does what the task asks.

    Raises:
        NoScriptError: the task was not met.
    """
    task, chosen = answer.task, answer.chosen
    if chosen is None:
        raise NoScriptError(f"task {task.id} has no script: {answer.status}: {answer.reason}")
    return accelerated(baseline, recipe_of(baseline, chosen), task.sentence or task.id)


def accelerated(baseline: Baseline, recipe: Recipe, description: str) -> str:
    """Source of the script that generates with what was measured against a baseline."""
    combined = combination(sorted(recipe.parameters))
    return codegen.render(
        dataclasses.replace(
            _baseline(_told(baseline), baseline.configuration, description),
            title=combined.title,
            parameters=recipe.parameters,
            parts=combined.emit(recipe.parameters, baseline.pipeline),
            measured=codegen.Measured(
                speedup=round(recipe.speedup, 2),
                loss=recipe.loss,
                loss_interval=recipe.loss_interval,
                confidence=recipe.confidence,
                prompts=len(set(subjects_of(recipe.prompts))),
                hardware=recipe.environment.device,
                versions=recipe.environment.versions,
                date=recipe.date,
                limits=recipe.limits_in_words,
            ),
        )
    )


def baseline_script(spec: ModelSpec, configuration: Configuration, description: str) -> str:
    """Source of the script that generates with the baseline pipeline."""
    return codegen.render(_baseline(spec, configuration, description))


def _baseline(spec: ModelSpec, configuration: Configuration, description: str) -> codegen.Script:
    family = FAMILIES[spec.family]
    return codegen.Script(
        description=description,
        model=spec.source,
        pipeline_class=family.class_of(spec),
        scheduler_class=configuration.sampler.diffusers,
        scheduler_options=spec.scheduler_options(configuration.sampler),
        steps=configuration.steps,
        guidance_scale=spec.guidance_scale,
        height=spec.height,
        width=spec.width,
        dtype=spec.dtype,
        load_arguments=family.load_arguments(),
        variant=spec.variant,
        vae=spec.vae,
        config=spec.config,
        lora=spec.lora,
        fused=spec.fused,
        textual_inversion=spec.textual_inversion,
        negative_prompt=spec.negative_prompt,
        clip_skip=spec.clip_skip,
        guidance_rescale=spec.guidance_rescale,
        controlnet=spec.controlnet,
        strength=spec.strength,
        controlnet_scale=spec.controlnet_scale,
    )


def _told(baseline: Baseline) -> ModelSpec:
    """The model of a baseline; where its prompts have negative prompts of their own, a script must
    be able to take some."""
    spec = baseline.spec
    if spec.negative_prompt is None and have_negatives(baseline.prompts):
        return dataclasses.replace(spec, negative_prompt="")
    return spec
