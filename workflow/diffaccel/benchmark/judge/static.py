"""The first stage: whether a script does what its task asks for, by its syntax tree alone."""

from __future__ import annotations

import ast
import contextlib
import functools
import itertools
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffaccel.benchmark.judge.syntax import (
    GENERAL,
    Generation,
    Known,
    Script,
    UnreadableError,
    plain,
)
from diffaccel.benchmark.judge.syntax.values import (
    OWN,
    UNKNOWN,
    Arguments,
    Const,
    Thing,
    Value,
    about_of,
    options,
)
from diffaccel.plugins.accelerators import ACCELERATORS
from diffaccel.plugins.accelerators.base import Accelerator, Way

LOAD, GENERATE = "load_pipeline", "generate"
"""The functions that a judged script must have; see docs/reference/judge.md."""
STEPS_PLACE = {"StableDiffusionPipeline": 3, "StableDiffusionXLPipeline": 4}
"""Place of ``num_inference_steps`` among the arguments of a call."""
GUIDANCE_PLACE = {"StableDiffusionPipeline": 6, "StableDiffusionXLPipeline": 8}
"""Place of ``guidance_scale``."""
OWN_PATH = "pipe.scheduler"
"""Path of the scheduler that a pipeline was loaded with."""
MOST_SHOWN = 3
"""Lines that are refused of which a judgement speaks."""
DEFAULT_STEPS = 50
LORA_ON = ("pipe.load_lora_weights", "pipe.fuse_lora")
"""What puts a LoRA beside a pipeline's weights, or into them."""
LORA_OFF = {
    "pipe.unload_lora_weights": LORA_ON[0],
    "pipe.disable_lora": LORA_ON[0],
    "pipe.unfuse_lora": LORA_ON[1],
}
"""What takes it off again."""
OTHER_STEPS = ("timesteps", "sigmas", "denoising_end")
"""Arguments that make the number of steps another than ``num_inference_steps``."""


@dataclass(frozen=True)
class Wanted:
    """What a script must do.

    Args:
        pipeline_class: diffusers' name of it.
        source: folder, file or hub id of the model, without a revision.
        scheduler_class: diffusers' name of it.
        own_scheduler: the class that the model itself comes with, where that is known.
        steps: of inference.
        accelerators: short names; None where the choice is open.
        guided: whether guidance must be on.
        lora: whether a LoRA must be on, beside the weights or in them.
    """

    pipeline_class: str
    source: str
    scheduler_class: str
    own_scheduler: str | None
    steps: int
    accelerators: frozenset[str] | None
    guided: bool = True
    lora: bool = False


def examine(source: bytes, wanted: Wanted) -> dict[str, str]:
    """What is wrong with a script, by what was looked at; empty where it is right. What cannot be
    looked at, since what comes before is wrong, is left out."""
    try:
        script = Script(source, KNOWN)
        generations, problem = _generations(script)
    except UnreadableError as error:
        return {"source": str(error)}
    found = {"source": "", "interface": problem}
    if not problem:
        for name, check in CHECKS.items():
            problems = (check(generating, wanted) for generating in generations)
            found[name] = next((each for each in problems if each), "")
        found["known"] = "; ".join(script.refused[:MOST_SHOWN])
    return found


def _generations(script: Script) -> tuple[list[Generation], str]:
    """The calls of a pipeline that ``generate`` may reach; or why there are none."""
    if script.ends:
        return [], "reading the module ends with an error or an exit"
    load, generate = script.function(LOAD), script.function(GENERATE)
    if load is None or generate is None:
        return [], f"there must be functions {LOAD}() and {GENERATE}(pipe, prompts, seeds)"
    pipe = script.call(load, [])
    if pipe is None:
        return [], f"{LOAD}() never returns"
    before = len(script.generations)
    if script.call(generate, [pipe, UNKNOWN, UNKNOWN], often=True) is None:
        return [], f"{GENERATE}() never returns"
    generations = script.generations[before:]
    return (
        generations,
        "" if generations else f"{GENERATE}() reaches no call of a pipeline of diffusers",
    )


def _check_pipeline(generating: Generation, wanted: Wanted) -> str:
    if generating.kind in (wanted.pipeline_class, *GENERAL):
        return ""
    return (
        f"line {generating.line} calls a {generating.kind}; asked for is a {wanted.pipeline_class}"
    )


def _check_model(generating: Generation, wanted: Wanted) -> str:
    for each in options(generating.source):
        if not isinstance(each, Const) or not isinstance(each.value, str):
            return f"cannot tell what model is loaded: write {wanted.source!r} as a constant"
        if os.path.normpath(each.value) != os.path.normpath(wanted.source):
            return f"the model is {shown(each.value)}; asked for is {wanted.source!r}"
    return ""


def shown(value: object) -> str:
    """A constant of a script, in few words."""
    if isinstance(value, int) and abs(value) > 10**18:
        return "a number of very many digits"  # which Python would refuse to write
    return repr(value)[:80]


def _check_scheduler(generating: Generation, wanted: Wanted) -> str:
    for each in options(generating.scheduler):
        if each == OWN or (isinstance(each, Thing) and each.path == OWN_PATH):
            if wanted.own_scheduler != wanted.scheduler_class:
                return f"no scheduler is set; asked for is {wanted.scheduler_class}"
        elif (name := _diffusers_class(each)) != wanted.scheduler_class:
            return f"the scheduler is {name or 'not known'}; asked for is {wanted.scheduler_class}"
    return ""


def _diffusers_class(value: Value) -> str | None:
    """The class of diffusers that something is of."""
    parts = value.path.split(".") if isinstance(value, Thing) else []
    return parts[1] if len(parts) > 1 and parts[0] == "diffusers" else None


def _check_steps(generating: Generation, wanted: Wanted) -> str:
    arguments: Arguments = generating.arguments
    for name in OTHER_STEPS:
        if name in arguments.named and arguments.named[name] != Const(None):
            return f"line {generating.line} sets {name}, which makes the steps others"
    place = STEPS_PLACE.get(wanted.pipeline_class)
    told = arguments.get("num_inference_steps", place) or Const(DEFAULT_STEPS)
    for each in options(told):
        if not isinstance(each, Const):
            return (
                f"cannot tell the steps of line {generating.line}: write {wanted.steps} as a "
                "constant"
            )
        if each.value != wanted.steps:
            return (
                f"line {generating.line} takes {shown(each.value)} steps; asked for are "
                f"{wanted.steps}"
            )
    return ""


def _check_guidance(generating: Generation, wanted: Wanted) -> str:
    place = GUIDANCE_PLACE.get(wanted.pipeline_class)
    told = generating.arguments.get("guidance_scale", place)
    if not wanted.guided or told is None:
        return ""
    for each in options(told):
        value = each.value if isinstance(each, Const) else None
        if not isinstance(value, int | float):
            return f"cannot tell the guidance of line {generating.line}: write it as a constant"
        if value <= 1:
            return (
                f"line {generating.line} turns guidance off (guidance_scale {shown(value)}), which "
                "halves the work and was not asked for"
            )
    return ""


def _check_accelerators(generating: Generation, wanted: Wanted) -> str:
    if wanted.accelerators is None:
        return ""
    used, idle = set(), []
    for name, accelerator in ACCELERATORS.items():
        for way in accelerator.ways:
            if _uses(generating, way):
                used.add(name)
                idle += _idle(accelerator, way, generating, wanted)
    missing, surplus = wanted.accelerators - used, used - wanted.accelerators
    problems = [f"{_titles(missing)} is not put on when line {generating.line} is reached"] * bool(
        missing
    )
    problems += [f"{_titles(surplus)} is put on, and not asked for"] * bool(surplus)
    return "; ".join([*problems, *idle])


def _check_lora(generating: Generation, wanted: Wanted) -> str:
    on = any(path in generating.done for path in LORA_ON)
    if on is wanted.lora:
        return ""
    what = "not on, and the model has one" if wanted.lora else "loaded, and not asked for"
    return f"a LoRA is {what} when line {generating.line} is reached"


def _idle(accelerator: Accelerator, way: Way, generating: Generation, wanted: Wanted) -> list[str]:
    """What is put on with parameters that change nothing, where its call tells them."""
    found = []
    for made in generating.done.get(plain(way.told_by), ()):
        given, positional = made.arguments, list(made.arguments.positional)
        if positional and about_of(positional[:1]):
            del positional[0]
        own: dict[str, Any] = {}
        generated = (
            way.told_by == f"pipe.{way.through}"
        )  # which takes the pipeline's arguments first
        for (name, default), place in zip(way.takes, itertools.count()):
            value = (
                positional[place] if not generated and place < len(positional) else Const(default)
            )
            value = given.named.get(name, UNKNOWN if given.open else value)
            if isinstance(value, Const):
                own[name] = value.value
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if reason := accelerator.idle(own, wanted.steps):
                found.append(f"line {made.line}: {accelerator.title}: {reason}")
    return found


def _uses(generating: Generation, way: Way) -> bool:
    through = way.through in ("", generating.through)
    return through and all(plain(path) in generating.done for path in way.calls)


def _titles(names: frozenset[str] | set[str]) -> str:
    return " and ".join(ACCELERATORS[name].title for name in sorted(names))


CHECKS: dict[str, Callable[[Generation, Wanted], str]] = {
    "pipeline": _check_pipeline,
    "model": _check_model,
    "scheduler": _check_scheduler,
    "steps": _check_steps,
    "guidance": _check_guidance,
    "accelerators": _check_accelerators,
    "lora": _check_lora,
}
"""What is looked at -> what is wrong with a call of the pipeline, or nothing."""
LOOKED_AT = ("source", "interface", *CHECKS, "known")
"""Names of all that a script is looked at for; the last is whether all that it does is known."""


def _undone_by() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for accelerator in ACCELERATORS.values():
        for way in accelerator.ways:
            for path in way.undone:
                found[plain(path)].update(map(plain, way.calls))
    for path, undone in LORA_OFF.items():
        found[path].add(undone)
    return dict(found)


@functools.cache
def _definitions() -> frozenset[str]:
    sources = [text for each in ACCELERATORS.values() for text in each.definitions()]
    return frozenset(ast.dump(node) for text in sources for node in ast.parse(text).body)


WAYS = [way for each in ACCELERATORS.values() for way in each.ways]
THROUGH = {way.through for way in WAYS} - {""}
KNOWN = Known(
    undone_by=_undone_by(),
    generates=THROUGH,
    calls={plain(path) for way in WAYS for path in (*way.calls, *way.undone)},
    writes={text for each in ACCELERATORS.values() for text in each.writes},
    definitions=_definitions,
)
