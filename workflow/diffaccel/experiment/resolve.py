"""What the entries of a configuration stand for: models, accelerators and the options of stages."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffaccel.experiment.limits import limits_of
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.experiment.schema import Config, ModelEntry, SchedulerEntry
from diffaccel.plugins.accelerators import ACCELERATORS, Combination
from diffaccel.plugins.models import FAMILIES, ModelSpec, family_of, known_models, layout_of
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, class_for
from diffaccel.plugins.schedulers import SchedulerSpec, scheduler_named
from diffaccel.registry import suggest
from diffaccel.store.jsonio import to_json


def parse_accelerators(title: str) -> Combination:
    """The combination that a list such as ``DeepCache, T-Gate, and ToMe`` names, by titles or
    short names, in any order.

    Raises:
        ValueError: a name is not known, or is there twice.
    """
    by_name = {plugin.title.lower(): plugin for plugin in ACCELERATORS.values()}
    by_name |= {plugin.name: plugin for plugin in ACCELERATORS.values()}
    parts = title.replace("+", ",").replace(" and ", ",").split(",")
    words = [word for part in parts if (word := part.strip())]
    unknown = [word for word in words if word.lower() not in by_name]
    if unknown or not words:
        titles = [plugin.title for plugin in ACCELERATORS.values()]
        given = unknown[0] if unknown else title
        raise ValueError(f"unknown accelerator {given!r}; {suggest(given, titles)}")
    return Combination.of([by_name[word.lower()] for word in words])


def model_spec(entry: str | ModelEntry) -> ModelSpec:
    """What a model of the configuration is measured as: as the known model of that name, else as
    the original of its family, wherever the entry says nothing. The size of the images comes from
    the model itself where it tells it."""
    known = known_models()
    if isinstance(entry, str):
        return known[entry]
    said = entry.model_dump(exclude={"limits"})
    given = {key: value for key, value in said.items() if value is not None}
    given["lora"] = tuple(Lora(**each) for each in given["lora"])
    given["textual_inversion"] = tuple(TextualInversion(**e) for e in given["textual_inversion"])
    if entry.name in known and entry.family is None:
        base = known[entry.name]
    else:
        base = FAMILIES[entry.family or family_of(entry.source or "") or ""].known[0]
    if entry.untrained or entry.source is not None:
        # These belong to the weights of the base, not to its layout.
        base = dataclasses.replace(base, source="", variant=None, vae=None)
    if entry.source is not None and (layout := layout_of(entry.source)) and layout.image_size:
        height, width = layout.image_size
        base = dataclasses.replace(base, height=height, width=width)
    if entry.prompts is not None:
        # Others of the same kind, not ours.
        base = dataclasses.replace(base, heldout=None)
    if entry.task is not None:
        base = dataclasses.replace(base, **_usual(entry.task, base.family))
        base = base if entry.heldout_inputs else dataclasses.replace(base, heldout=None)
    return ModelSpec(**{**vars(base), "family": base.family, **given})


def _usual(task: str, family: str) -> dict[str, Any]:
    """What diffusers takes for the settings of a task where nothing is said."""
    plugin, kind = PIPELINE_TASKS[task], class_for(task, FAMILIES[family].pipeline_class)
    strength = {"strength": plugin.strengths[kind]} if plugin.strengths else {}
    return strength | ({"controlnet_scale": 1.0} if plugin.controlled else {})


def scheduler_spec(entry: str | SchedulerEntry) -> SchedulerSpec:
    """What a scheduler of the configuration stands for.

    Raises:
        UnknownNameError: the scheduler is not known.
    """
    if isinstance(entry, str):
        return scheduler_named(entry)
    known = scheduler_named(entry.scheduler)
    return SchedulerSpec(entry.name, known.diffusers, {**known.options, **entry.options})


def search_options(config: Config, model: str) -> dict[str, Any]:
    """How a model is searched, as JSON. It says nothing of limits where there are none, so that
    what was decided without stays."""
    limits = to_json(limits_of(config, model))
    return {**config.search.model_dump(), **({"limits": limits} if limits else {})}


def judge_options(config: Config) -> JudgeOptions:
    """How judged code is run, as the record that stages take."""
    given = config.judge.model_dump() | {"max_pairs": config.verify.max_pairs}
    return JudgeOptions(
        **{each.name: given[each.name] for each in dataclasses.fields(JudgeOptions)}
    )


def measure_options(config: Config) -> MeasureOptions:
    """The measuring options as the record that stages take."""
    return MeasureOptions(**config.measure.model_dump(exclude={"seeds"}))
