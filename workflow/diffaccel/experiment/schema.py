"""The keys of config.yaml: their types, bounds and defaults. Field names are keys.

``snakemake --config`` gives all that is within a value as text, so that a text is taken for the
number, flag or nothing that may stand in its place.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)


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


def _several(value: Any) -> Any:
    """A source for an entry of it, and one entry for a list of them."""
    entries = value if isinstance(value, list) else [] if value is None else [value]
    return [{"source": each} if isinstance(each, str) else each for each in entries]


Place = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
Steps = Annotated[int, BeforeValidator(_number), Field(ge=1, le=1000)]
Speedup = Annotated[float, BeforeValidator(_number), Field(gt=1)]
Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class LoraEntry(_Strict):
    """A LoRA on a model; see `diffaccel.plugins.models._spec.Lora`."""

    source: Place
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    weight_name: Annotated[str, Field(min_length=1)] | None = None


class InversionEntry(_Strict):
    """A word of its own; see `diffaccel.plugins.models._spec.TextualInversion`."""

    source: Place
    token: Annotated[str, Field(pattern=r"^\S+$")]
    weight_name: Annotated[str, Field(min_length=1)] | None = None


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
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    rescale_betas_zero_snr: bool | None = None
    lora: Annotated[list[LoraEntry], BeforeValidator(_several)] = []
    fused: bool = False
    textual_inversion: Annotated[list[InversionEntry], BeforeValidator(_several)] = []
    negative_prompt: str | None = None
    clip_skip: Annotated[int, Field(ge=1)] | None = None
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] | None = None
    task: str | None = None
    inputs: Place | None = None
    heldout_inputs: Place | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    controlnet: Place | None = None
    controlnet_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    limits: str | dict[str, str] | None = None


class SchedulerEntry(_Strict):
    """A scheduler of the user's own: a known one with other options, which are all further keys."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
    scheduler: Annotated[str, Field(min_length=1)]

    @property
    def options(self) -> dict[str, Any]:
        """What is set of the scheduler's class."""
        return {name: _option(value) for name, value in (self.model_extra or {}).items()}


def _option(value: Any) -> Any:
    """The text that ``snakemake --config`` gives for a number or a flag, as that."""
    read = value
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            read = yaml.safe_load(value)
    return read if isinstance(read, int | float | None) else value


class MetricEntry(_Strict):
    """A metric with weights from elsewhere than usual; see `diffaccel.plugins.metrics`."""

    name: Annotated[str, Field(min_length=1)]
    source: Place | None = None


class MeasureEntry(_Strict):
    """How much is measured; see `diffaccel.experiment.options.MeasureOptions`."""

    prompts: Annotated[int, Field(ge=2)] = 16
    max_prompts: Annotated[int, Field(ge=2)] | None = 32
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: Annotated[int, Field(ge=1)] | None = None
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
    schedulers: Annotated[list[str | SchedulerEntry], Field(min_length=1)] = [
        "DDIM",
        "DPM-Solver++",
    ]
    steps: Annotated[list[Steps], Field(min_length=1)] = [20]
    accelerators: Annotated[list[str], Field(min_length=1)] = [
        "DeepCache",
        "T-Gate",
        "ToMe",
        "DeepCache and T-Gate",
    ]
    speedups: list[Speedup] = [1.2, 1.5, 2.0]
    loss_limit: Annotated[float, Field(gt=0, lt=1)] = 0.02
    limits: str | dict[str, str] = {}
    metrics: list[str | MetricEntry] = []
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
