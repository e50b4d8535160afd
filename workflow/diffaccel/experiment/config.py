"""The experiment as the user writes it in config.yaml, checked before any job starts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from diffaccel.errors import InputError
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.experiment.prompts import PromptError, read_prompts
from diffaccel.plugins.accelerators import ACCELERATORS, Combination, combination
from diffaccel.plugins.models import FAMILIES, ModelSpec, family_of, known_models, layout_of
from diffaccel.plugins.schedulers import SCHEDULERS
from diffaccel.plugins.sources import is_local, is_single_file
from diffaccel.plugins.space import Value
from diffaccel.registry import plugin_files, suggest

STRATEGIES = plugin_files("diffaccel.search.strategies")
"""Names of the search strategies; none is loaded here."""


class ConfigError(InputError):
    """The configuration is wrong: one message, one line a mistake, each with what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """``snakemake --config`` gives all that is within a value as text."""
        if not isinstance(given, Mapping):
            return given
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {key: _meant(value, kinds.get(key)) for key, value in given.items()}


def _meant(value: Any, annotation: Any) -> Any:
    """What a text stands for where a number, a flag or nothing may stand."""
    if not isinstance(value, str):
        return value
    kinds = _kinds(annotation)
    if value == "null" and type(None) in kinds:
        return None
    if str in kinds or not kinds & {int, float, bool}:
        return value
    with contextlib.suppress(yaml.YAMLError):
        if isinstance(read := yaml.safe_load(value), int | float):
            return read
    return value


def _kinds(annotation: Any) -> set[Any]:
    """The types in an annotation, however deep."""
    if get_origin(annotation) is Literal:
        return {type(each) for each in get_args(annotation)}
    if get_origin(annotation) in (list, dict):
        return {get_origin(annotation)}
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def _number(value: Any) -> Any:
    """``snakemake --config steps=[20]`` gives the members of a list as text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value) if isinstance(value, str) else value
    return value


def _seconds(value: Any) -> Any:
    """``20m`` and the like as seconds; of numbers these are seconds already."""
    units = {"s": 1, "m": 60, "min": 60, "h": 3600}
    given = (
        re.fullmatch(r"\s*(\d+\.?\d*)\s*(s|m|min|h)?\s*", value) if isinstance(value, str) else None
    )
    if given is not None:
        return float(given[1]) * units[given[2] or "s"]
    if isinstance(value, str):
        raise ValueError("a time is a number of seconds, or a number with its unit: 90s, 20m, 2h")
    return value


Place = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
Steps = Annotated[int, BeforeValidator(_number), Field(ge=1, le=1000)]
Speedup = Annotated[float, BeforeValidator(_number), Field(gt=1)]
Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class ModelEntry(_Strict):
    """A model of the user's own, or changes to a known one. What is left out is taken from the
    known model of that name, else from the family's."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
    family: str | None = None
    source: Place | None = None
    height: Annotated[int, Field(ge=8, multiple_of=8)] | None = None
    width: Annotated[int, Field(ge=8, multiple_of=8)] | None = None
    guidance_scale: Annotated[float, Field(ge=0)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    scorer: Place | None = None
    prompts: Place | None = None
    heldout: Place | None = None
    dtype: Dtype | None = None
    threads: Annotated[int, Field(ge=0)] | None = None
    jobs_per_gpu: Annotated[int, Field(ge=1)] | None = None
    variant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    config: Place | None = None
    vae: Place | None = None
    untrained: bool = False


class MeasureEntry(_Strict):
    """How much is measured; see `diffaccel.experiment.options.MeasureOptions`."""

    prompts: Annotated[int, Field(ge=2)] = 16
    max_prompts: Annotated[int, Field(ge=2)] | None = 32
    seed: Annotated[int, Field(ge=0)] = 0
    pairs: Annotated[int, Field(ge=1)] = 3
    max_pairs: Annotated[int, Field(ge=1)] = 6
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.03
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class SearchEntry(_Strict):
    """How the search goes."""

    strategy: str = "frontier"
    space: Literal["coarse", "grid", "full"] = "grid"
    seed: Annotated[int, Field(ge=0)] = 0
    loss_confidence: Literal["point", "upper"] = "point"
    call_seconds: Annotated[float, Field(gt=0)] = 600.0
    budget: Duration | None = None


class VerifyEntry(_Strict):
    """How scripts are verified.

    Args:
        heldout: how many prompts that nothing was chosen by they are verified on, too; None: as
            many as it was searched with.
        max_pairs: timed pairs at most, while they do not tell whether a script is as fast as it
            must be; for scripts that are judged, too.
        budget: seconds after which no more pairs are timed than must be; None: there is no such.
        batch_sizes: images of a call at which latency, throughput, memory and energy of scripts are
            measured besides, whatever the budget.
        calls: of each script at each of these, and as many of the baseline pipeline.
    """

    heldout: Annotated[int, Field(ge=0)] | None = None
    max_pairs: Annotated[int, Field(ge=1)] = 48
    budget: Duration | None = None
    batch_sizes: list[Annotated[int, Field(ge=1)]] = []
    calls: Annotated[int, Field(ge=2)] = 20


class SpeedEntry(_Strict):
    """What is timed on untrained models: these candidates; without any, a mild, a middle and an
    aggressive one of each of the accelerators."""

    candidates: list[dict[str, dict[str, int | float | bool]]] = []


class JudgeEntry(_Strict):
    """Whose scripts are judged, and how; see `diffaccel.experiment.options.JudgeOptions`.

    Args:
        prompts: file of the tasks; without one nothing is judged.
        scripts: folder of a script ``<prompt_id>.py`` for each.
    """

    prompts: Place | None = None
    scripts: Place = "gen_code"
    sandbox: bool = True
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.1
    memory_gib: Annotated[float, Field(gt=0)] = 16.0
    call_seconds: Annotated[float, Field(gt=0)] = 600.0
    load_seconds: Annotated[float, Field(gt=0)] = 900.0


class Config(_Strict):
    """The whole of config.yaml. Field names are its keys."""

    models: Annotated[list[str | ModelEntry], Field(min_length=1)] = ["mini-SD1.5"]
    schedulers: Annotated[list[str], Field(min_length=1)] = ["DDIM", "DPM-Solver++"]
    steps: Annotated[list[Steps], Field(min_length=1)] = [20]
    accelerators: Annotated[list[str], Field(min_length=1)] = [
        "DeepCache",
        "T-Gate",
        "ToMe",
        "DeepCache and T-Gate",
    ]
    speedups: list[Speedup] = [1.2, 1.5, 2.0]
    loss_limit: Annotated[float, Field(gt=0, lt=1)] = 0.02
    fewer_steps_baseline: bool = True
    tasks_file: str | None = None
    platform: str = "auto"
    results: str = "results"
    measure: MeasureEntry = MeasureEntry()
    search: SearchEntry = SearchEntry()
    verify: VerifyEntry = VerifyEntry()
    speed: SpeedEntry = SpeedEntry()
    judge: JudgeEntry = JudgeEntry()


SECTIONS: dict[str, type[BaseModel]] = {
    "measure": MeasureEntry,
    "search": SearchEntry,
    "verify": VerifyEntry,
    "speed": SpeedEntry,
    "judge": JudgeEntry,
}


def load(raw: Mapping[str, Any]) -> Config:
    """The checked configuration.

    Raises:
        ConfigError: a key is unknown, a value has a wrong type or is out of range, or a name is
            not known, or a model's prompts cannot be read. The message lists every mistake.
    """
    # A key with nothing behind it says nothing.
    given = {key: value for key, value in raw.items() if value is not None or key not in SECTIONS}
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        found = dict.fromkeys(map(_explain, error.errors()))
        lines = [line for line in found if line is not None]
        raise ConfigError(_message(lines)) from None
    # A model's prompts are known only where its name is.
    if problems := _unknown_names(config) or _unread_prompts(config):
        raise ConfigError(_message(problems))
    return config


def read(path: Path) -> Config:
    """The checked configuration in a YAML file.

    Raises:
        ConfigError: as `read_raw`, or as `load`.
    """
    return load(read_raw(path))


def read_raw(path: Path) -> Mapping[str, Any]:
    """A configuration as it stands in a YAML file; an empty one is the default experiment.

    Raises:
        ConfigError: there is no such file, or it is not YAML with keys.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f", at line {at.line + 1}, column {at.column + 1}" if at else ""
        raise ConfigError(f"{path}: this is not YAML{where}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, Mapping | None):
        raise ConfigError(f"{path}: a configuration has keys, as in config.yaml; got {raw!r:.80}")
    return raw or {}


def _message(lines: Sequence[str]) -> str:
    return "the configuration is wrong:\n" + "\n".join(f"  - {line}" for line in lines)


def _explain(error: ErrorDetails) -> str | None:
    """A mistake in a line; None where another line says it."""
    # pydantic puts the names of a union's members into the path; a user wrote none of them.
    path = [part for part in error["loc"] if part not in MEMBERS]
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        where = _where(path)
        if (now := RENAMED.get(where)) is not None:
            return f"{where}: is called {now}"
        return f"{where}: there is no such key; {suggest(str(path[-1]), _keys(path[:-1]))}"
    if "str" in error["loc"] and isinstance(given, Mapping):
        return None  # what is wrong in it has its own line
    if path[0] == "models" and len(path) == 2:
        what = "must be a model's name, or an entry such as {name: my-model, source: /path}"
        return f"{_where(path)}: {what}; got {given!r}"
    if kind == "list_type":
        return f"{_where(path)}: must be a list, e.g. [{given}]; got {given!r}"
    rule = RULES.get(_where(named := [part for part in path if not isinstance(part, int)]))
    if rule is not None:
        return f"{_where(named)}: {rule}; got {given!r}"
    if kind == "string_type":
        return f"{_where(path)}: must be a text; got {given!r}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{_where(path)}: {said[0].lower()}{said[1:]}; got {given!r}"


RENAMED = {
    "rival": "fewer_steps_baseline now, and is true or false",
    "speed.settings": "speed.candidates now",
}
"""Keys of before, and what to write in their place."""
MEMBERS = {"str", "ModelEntry"}
RULES = {
    "loss_limit": "must be a share between 0 and 1, and 0.02 means 2%",
    "speedups": "each must be a number above 1",
    "steps": "each must be a whole number from 1 to 1000",
}
"""What a key must be, where pydantic's words say less."""


def _where(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _keys(path: Sequence[int | str]) -> list[str]:
    section = ({"models": ModelEntry} | SECTIONS)[str(path[0])] if path else Config
    return list(section.model_fields)


def _unknown_names(config: Config) -> list[str]:
    problems = []
    known = known_models()
    for entry in config.models:
        if isinstance(entry, str):
            if entry not in known:
                problems.append(f"models: unknown model {entry!r}; {suggest(entry, known)}")
        elif entry.family is not None and entry.family not in FAMILIES:
            problems.append(
                f"models: {entry.name}: unknown family {entry.family!r}; "
                f"{suggest(entry.family, FAMILIES)}"
            )
        elif entry.untrained:
            problems += _untrained_problems(entry)
        else:
            problems += _source_problems(entry)
    names = [entry if isinstance(entry, str) else entry.name for entry in config.models]
    problems += [f"models: {name!r} is there twice" for name in names if names.count(name) > 1][:1]
    for name in config.schedulers:
        if name not in SCHEDULERS:
            problems.append(f"schedulers: unknown scheduler {name!r}; {suggest(name, SCHEDULERS)}")
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
    weights = [key for key in ("variant", "config", "vae") if vars(entry)[key]]
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
            f"models: {entry.name}: the source {entry.source!r} does not tell its family; add "
            f"`family:` to the model, one of {', '.join(FAMILIES)}"
        )
    if entry.config is not None and not is_single_file(entry.source or ""):
        problems.append(f"models: {entry.name}: config is for a source that is a single file")
    if entry.variant is not None and is_single_file(entry.source or ""):
        problems.append(f"models: {entry.name}: a single file has no variant")
    return problems


def _unread_prompts(config: Config) -> list[str]:
    specs = [model_spec(entry) for entry in config.models]
    usual, most = config.measure.prompts, config.measure.max_prompts or 0
    asked = [(spec.prompts, usual, most) for spec in specs]
    if config.verify.heldout != 0:
        asked += [(spec.heldout, 1, usual) for spec in specs if spec.heldout is not None]
    problems = []
    for path, count, most in dict.fromkeys(asked):
        try:
            read_prompts(Path(path), count, most)
        except PromptError as error:
            problems.append(str(error))
    return problems


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
    given = {key: value for key, value in entry.model_dump().items() if value is not None}
    if entry.name in known and entry.family is None:
        base = known[entry.name]
    else:
        base = FAMILIES[entry.family or family_of(entry.source or "") or ""].known[0]
    if entry.untrained or entry.source is not None:
        # These belong to the weights of the base, not to its layout.
        base = dataclasses.replace(base, source="", variant=None, vae=None)
    if entry.source is not None and (layout := layout_of(entry.source)) and layout.image_size:
        base = dataclasses.replace(base, height=layout.image_size, width=layout.image_size)
    if entry.prompts is not None:
        # Others of the same kind, not ours.
        base = dataclasses.replace(base, heldout=None)
    return ModelSpec(**{**vars(base), "family": base.family, **given})


def judge_options(config: Config) -> JudgeOptions:
    """How judged code is run, as the record that stages take."""
    given = config.judge.model_dump() | {"max_pairs": config.verify.max_pairs}
    return JudgeOptions(
        **{each.name: given[each.name] for each in dataclasses.fields(JudgeOptions)}
    )


def measure_options(config: Config) -> MeasureOptions:
    """The measuring options as the record that stages take."""
    return MeasureOptions(**config.measure.model_dump())
