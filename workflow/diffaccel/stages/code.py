"""Rendering the script of an answered task."""

from __future__ import annotations

from diffaccel import codegen
from diffaccel.accelerators import combination
from diffaccel.errors import InputError
from diffaccel.grid import scheduler_class
from diffaccel.models import FAMILIES
from diffaccel.records import Answer, Baseline


class NoScriptError(InputError):
    """A task that has no script; says why."""


def script(answer: Answer, baseline: Baseline) -> str:
    """Source of the script that does what the task asks.

    Raises:
        NoScriptError: the task was not met.
    """
    task, chosen = answer.task, answer.chosen
    if chosen is None or task.cell is None or answer.environment is None:
        raise NoScriptError(f"task {task.id} has no script: {answer.status}: {answer.reason}")
    combined, spec = combination(task.cell.accelerators), baseline.spec
    where = answer.environment
    return codegen.render(
        codegen.Script(
            description=task.sentence or task.id,
            model=spec.source,
            pipeline_class=baseline.facts.pipeline_class,
            scheduler_class=scheduler_class(baseline.setup.scheduler),
            steps=baseline.setup.steps,
            guidance_scale=spec.guidance_scale,
            height=spec.height,
            width=spec.width,
            dtype=spec.dtype,
            load_arguments=FAMILIES[spec.family].load_arguments(),
            variant=spec.variant,
            vae=spec.vae,
            config=spec.config,
            title=combined.title,
            setting=chosen.setting,
            parts=combined.emit(chosen.setting, baseline.facts),
            measured=codegen.Measured(
                speedup=round(chosen.speedup, 2),
                loss=chosen.loss,
                loss_interval=chosen.loss_interval,
                confidence=baseline.options.confidence,
                prompts=len(baseline.prompts),
                hardware=where.device,
                versions=where.versions,
                date=chosen.date,
            ),
        )
    )
