"""What is wrong with a configuration, in words: a line a mistake, with what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from diffaccel.experiment.limits import wrong_limits
from diffaccel.experiment.metrics import metrics_for, refused, wrong_metrics
from diffaccel.experiment.prompts import Prompt, PromptError, have_negatives, read_prompts
from diffaccel.experiment.resolve import model_spec, parse_accelerators
from diffaccel.experiment.scheduling import wrong_schedulers
from diffaccel.experiment.schema import (
    SECTIONS,
    Config,
    InversionEntry,
    LoraEntry,
    MetricEntry,
    ModelEntry,
    SchedulerEntry,
)
from diffaccel.experiment.wrong_tasks import KEYS, unfit_spec, unread_inputs, wrong_task
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import FAMILIES, family_of, known_models
from diffaccel.plugins.sources import is_local, is_single_file
from diffaccel.plugins.space import Value
from diffaccel.registry import plugin_files, suggest

STRATEGIES = plugin_files("diffaccel.search.strategies")
"""Names of the search strategies; none is loaded here."""
RENAMED = {
    "rival": "fewer_steps_baseline (true or false)",
    "speed.settings": "speed.candidates",
}
"""Keys of before, and what to write in their place."""
MEMBERS = {"str", "MetricEntry", "ModelEntry", "SchedulerEntry"}
"""Of a union, whose names pydantic puts into the path; a user wrote none of them."""
RULES = {
    "loss_limit": "must be a share between 0 and 1, and 0.02 means 2%",
    "speedups": "each must be a number above 1",
    "steps": "each must be a whole number from 1 to 1000",
    "models.lora": (
        "must be a folder, a .safetensors file or a hub id, an entry such as {source: /path, "
        "weight: 0.8}, or a list of these"
    ),
    "models.strength": "must be above 0 and at most 1, the share of the steps that is run",
    "models.textual_inversion": (
        "must be an entry such as {source: /path, token: <mine>}, or a list of these"
    ),
}
"""What a key must be, where pydantic's words say less."""
ENTRIES: dict[str, type[BaseModel]] = {
    "metrics": MetricEntry,
    "models": ModelEntry,
    "schedulers": SchedulerEntry,
    "lora": LoraEntry,
    "textual_inversion": InversionEntry,
    **SECTIONS,
}
"""What has keys of its own, by its key."""


def explain(error: ErrorDetails) -> str | None:
    """A mistake in a line; None where another line says it."""
    path = [part for part in error["loc"] if part not in MEMBERS]
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        where = _where(path)
        if (now := RENAMED.get(where)) is not None:
            return f"{where}: was renamed to {now}"
        return f"{where}: there is no such key; {suggest(str(path[-1]), _keys(path[:-1]))}"
    if "str" in error["loc"] and isinstance(given, Mapping):
        return None  # what is wrong in it has its own line
    if path[0] == "models" and len(path) == 2:
        what = "must be a model's name, or an entry such as {name: my-model, source: /path}"
        return f"{_where(path)}: {what}; got {given!r}"
    if path[0] == "schedulers" and len(path) == 2:
        what = (
            "must be a scheduler's name, or an entry such as {name: my-euler, scheduler: Euler, "
            "timestep_spacing: trailing}"
        )
        return f"{_where(path)}: {what}; got {given!r}"
    if path[0] == "metrics" and len(path) == 2:
        what = "must be a metric's name, or an entry such as {name: dino, source: /path}"
        return f"{_where(path)}: {what}; got {given!r}"
    if kind == "list_type":
        return f"{_where(path)}: must be a list, e.g. [{given}]; got {given!r}"
    rule = RULES.get(_where(named := [part for part in path if not isinstance(part, int)]))
    if rule is not None:
        return f"{_where(named)}: {rule}; got {given!r}"
    if kind == "string_type":
        return f"{_where(path)}: must be a string; got {given!r}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{_where(path)}: {said[0].lower()}{said[1:]}; got {given!r}"


def _where(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _keys(path: Sequence[int | str]) -> list[str]:
    named = [part for part in path if isinstance(part, str)]
    return list((ENTRIES[named[-1]] if named else Config).model_fields)


def unknown_names(config: Config) -> list[str]:
    """Names that stand for nothing, and values that do not go together: a line each."""
    problems = _wrong_models(config)
    problems += wrong_schedulers(config.schedulers)
    problems += wrong_limits(config) or _wrong_metrics(config)
    for title in config.accelerators:
        if problem := _wrong_accelerators(title):
            problems.append(f"accelerators: {problem}")
    for number, parameters in enumerate(config.speed.candidates):
        if problem := _wrong_parameters(parameters):
            problems.append(f"speed.candidates.{number}: {problem}")
    if config.search.strategy not in STRATEGIES:
        given = config.search.strategy
        problems.append(f"search.strategy: unknown {given!r}; {suggest(given, STRATEGIES)}")
    if config.measure.max_pairs < config.measure.pairs:
        problems.append(
            f"measure.max_pairs: {config.measure.max_pairs} is below pairs {config.measure.pairs}"
        )
    if config.tasks_file is not None and not Path(config.tasks_file).is_file():
        problems.append(f"tasks_file: there is no file {config.tasks_file!r}")
    return problems


def _wrong_metrics(config: Config) -> list[str]:
    names = [entry if isinstance(entry, str) else entry.name for entry in config.models]
    every = (line for name in names for line in wrong_metrics(metrics_for(config, name)))
    return list(dict.fromkeys(every))


def _wrong_models(config: Config) -> list[str]:
    problems = [line for entry in config.models for line in _wrong_model(entry)]
    names = [entry if isinstance(entry, str) else entry.name for entry in config.models]
    twice = [f"models: {name!r} is listed twice" for name in names if names.count(name) > 1]
    return problems + twice[:1]


def _wrong_model(entry: str | ModelEntry) -> list[str]:
    if isinstance(entry, str):
        known = known_models()
        if entry in known:
            return []
        return [f"models: unknown model {entry!r}; {suggest(entry, known)}"]
    if entry.family is not None and entry.family not in FAMILIES:
        unknown = f"unknown family {entry.family!r}; {suggest(entry.family, FAMILIES)}"
        return [f"models: {entry.name}: {unknown}"]
    if entry.untrained:
        return _untrained_problems(entry)
    return _source_problems(entry) + _addition_problems(entry) + wrong_task(entry)


def _wrong_accelerators(title: str) -> str | None:
    try:
        return parse_accelerators(title).conflict
    except ValueError as error:
        return str(error)


def _wrong_parameters(parameters: Mapping[str, Mapping[str, Value]]) -> str | None:
    try:
        return combination(sorted(parameters)).forbids(parameters)
    except ValueError as error:
        return str(error)


def _untrained_problems(entry: ModelEntry) -> list[str]:
    where = f"models: {entry.name}: an untrained model has random weights"
    keys = ("variant", "config", "vae", "lora", "fused", "textual_inversion", "task", *KEYS)
    weights = [key for key in keys if vars(entry)[key]]
    problems = [f"{where}, so leave out {', '.join(weights)}"] if weights else []
    if entry.source is not None and not Path(entry.source).is_dir():
        problems.append(
            f"{where} and the sizes of its family, or of a folder in diffusers' format; "
            f"there is no folder {entry.source!r}"
        )
    where += " and the published sizes of its family"
    if entry.family is None and entry.name not in FAMILIES:
        problems.append(f"{where}, so name the family: {', '.join(FAMILIES)}")
    return problems


def _source_problems(entry: ModelEntry) -> list[str]:
    known = entry.name in known_models()
    if not known and entry.source is None:
        return [
            f"models: {entry.name!r} is not a known model, so it needs a source: a folder, a "
            ".safetensors file or a hub id"
        ]
    problems = []
    if entry.source is not None and is_local(entry.source) and not Path(entry.source).exists():
        problems.append(
            f"models: {entry.name}: there is no folder or file {entry.source!r}; a hub id is "
            "owner/name"
        )
    elif not known and entry.family is None and family_of(entry.source or "") is None:
        problems.append(
            f"models: {entry.name}: the family cannot be read from the source {entry.source!r}; "
            f"add `family:` to the model, one of {', '.join(FAMILIES)}"
        )
    if entry.config is not None and not is_single_file(entry.source or ""):
        problems.append(f"models: {entry.name}: config is for a source that is a single file")
    if entry.variant is not None and is_single_file(entry.source or ""):
        problems.append(f"models: {entry.name}: a single file has no variant")
    return problems


def _addition_problems(entry: ModelEntry) -> list[str]:
    """What is wrong with what a model has on top, as far as names tell."""
    problems = []
    for key in ("lora", "textual_inversion"):
        for each in vars(entry)[key]:
            where = f"models: {entry.name}: {key}"
            if is_local(each.source) and not Path(each.source).exists():
                problems.append(
                    f"{where}: there is no folder or file {each.source!r}; a hub id is owner/name"
                )
            elif each.weight_name is not None and is_single_file(each.source):
                problems.append(
                    f"{where}: weight_name is for a folder or a hub id; {each.source!r} is a file"
                )
    if entry.fused and not entry.lora:
        problems.append(f"models: {entry.name}: fused needs `lora`, which is not set")
    tokens = [each.token for each in entry.textual_inversion]
    if twice := [token for token in tokens if tokens.count(token) > 1]:
        problems.append(
            f"models: {entry.name}: textual_inversion: the token {twice[0]!r} is listed twice"
        )
    return problems


def unread_prompts(config: Config) -> list[str]:
    """What is wrong with the files of prompts; their models must be known."""
    specs = [model_spec(entry) for entry in config.models]
    usual, most = config.measure.prompts, config.measure.max_prompts or 0
    asked = [(spec.prompts, usual, most) for spec in specs]
    heldout = [spec for spec in specs if spec.heldout is not None and config.verify.heldout != 0]
    asked += [(str(spec.heldout), 1, usual) for spec in heldout]
    problems = [line for spec in specs for line in unfit_spec(spec, config.steps)]
    read: dict[str, list[Prompt]] = {}
    for path, count, most in dict.fromkeys(asked):
        try:
            read[path] = read_prompts(Path(path), count, most)
        except PromptError as error:
            problems.append(str(error))
    if not problems:
        every = [(metrics_for(config, spec.name), spec) for spec in specs]
        problems = [line for metrics, spec in every for line in refused(metrics, spec, read)]
    if problems:
        return problems
    verified = config.verify.heldout != 0
    return [
        line for spec in specs for line in unread_inputs(spec, usual, most, heldout=verified)
    ] or [
        f"models: {spec.name}: {spec.heldout} (held out) has negative prompts and {spec.prompts} "
        "has none. Add some there, or set the model's `negative_prompt`"
        for spec in heldout
        if spec.negative_prompt is None
        and have_negatives(read[str(spec.heldout)])
        and not have_negatives(read[spec.prompts])
    ]
