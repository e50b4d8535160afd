"""Renders the self-contained script that generates images with a candidate that was found.

The script uses torch, diffusers and the accelerators' own packages, not this one. Whatever comes
from a task, a configuration or a file enters it through `literal` or `docstring`, and nowhere
else; names of classes are checked to be identifiers. Ruff lays the script out, in 20 to 30 ms; what
it does not wrap, docstrings and long strings, `docstring` and `assign` do.
"""

from __future__ import annotations

import ast
import keyword
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruff.__main__ import find_ruff_bin

from diffaccel.plugins.accelerators.base import Emitted
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.sources import is_local, split
from diffaccel.plugins.space import Parameters, flatten
from diffaccel.recipes import additions, edits
from diffaccel.recipes.literals import LINE, Plain, assign, docstring, literal

TEMPLATES = Path(__file__).parents[3] / "templates"
RUFF = (
    # Nothing is of a project of its own, whatever lies in the current folder.
    ("check", "--select", "I", "--fix", "--config", "src = []"),
    ("format", "--line-length", str(LINE)),
)
"""Arguments of ruff for each time that it goes over a script."""
DTYPES = ("auto", "float16", "bfloat16", "float32")
"""What a script may compute in; ``auto`` is float16 on CUDA devices and float32 elsewhere."""
OWN_IMPORTS = (
    "import argparse",
    "import os",
    "from pathlib import Path",
    "import torch",
    "from PIL import Image",
)
ACCELERATED_IMPORTS = (
    "from collections.abc import Iterator",
    "from contextlib import contextmanager",
)
CALL = {
    "generator": "generators",
    "num_inference_steps": "STEPS",
    "guidance_scale": "GUIDANCE_SCALE",
    "height": "HEIGHT",
    "width": "WIDTH",
}
"""Keyword arguments of the call, as source, unless an accelerator gives others."""
ASKED = {
    "negative_prompt": "negative_prompts",
    "clip_skip": "CLIP_SKIP",
    "guidance_rescale": "GUIDANCE_RESCALE",
}
"""Those that the call has only where a script says something of them."""


@dataclass(frozen=True)
class Measured:
    """What was measured with exactly the candidates of a script.

    Args:
        speedup: time without accelerators / time with them.
        loss: relative loss of CLIP score.
        loss_interval: interval of the loss, low and high.
        confidence: of this interval.
        prompts: number of prompts that the scores are means over.
        hardware: name of the device.
        versions: package -> version.
        date: ISO date of the measurement.
        limits: what else was asked for, in words.
    """

    speedup: float
    loss: float
    loss_interval: tuple[float, float]
    prompts: int
    hardware: str
    versions: Mapping[str, str]
    date: str
    confidence: float = 0.95
    limits: Sequence[str] = ()


@dataclass(frozen=True)
class Script:
    """What a script is made from.

    Args:
        description: the task's sentence, or a short description.
        model: folder, single file, or hub id with or without ``@revision``.
        pipeline_class: diffusers' class name, e.g. ``StableDiffusionPipeline``.
        scheduler_class: diffusers' class name, e.g. ``DDIMScheduler``.
        scheduler_options: what is set of it besides what the model's own scheduler says.
        steps: number of inference steps.
        guidance_scale: weight of classifier-free guidance.
        height: of the images, in pixels.
        width: of the images, in pixels.
        dtype: one of `DTYPES`.
        title: name of the combination, as in tasks; empty without accelerators.
        parameters: values for each accelerator, as they were found.
        parts: source that applies the candidate, in the order of application.
        measured: what the candidate gives, if it was measured.
        load_arguments: what loading takes on top, e.g. ``{"safety_checker": None}``.
        variant: of the model's weight files.
        vae: folder or hub id of a VAE to load in place of the model's own.
        config: folder or hub id of the configuration of a model that is a single file.
        lora, fused, textual_inversion: what is loaded on top, each named by its file.
        negative_prompt: unless the command line says another; None: it cannot be given any.
        clip_skip, guidance_rescale: arguments of the call; None: it is not given them.
        controlnet: folder or hub id, where the pipeline takes one.
        strength, controlnet_scale: of the call, where it takes images.

    Raises:
        ValueError: a class or an argument is no identifier, the dtype is unknown, or the parts
            cannot be put into one call.
    """

    description: str
    model: str
    pipeline_class: str
    scheduler_class: str
    steps: int
    guidance_scale: float
    height: int
    width: int
    dtype: str = "auto"
    title: str = ""
    parameters: Parameters = field(default_factory=dict)
    parts: tuple[Emitted, ...] = ()
    measured: Measured | None = None
    load_arguments: Mapping[str, Plain] = field(default_factory=dict)
    scheduler_options: Mapping[str, Plain] = field(default_factory=dict)
    variant: str | None = None
    vae: str | None = None
    config: str | None = None
    lora: tuple[Lora, ...] = ()
    fused: bool = False
    textual_inversion: tuple[TextualInversion, ...] = ()
    negative_prompt: str | None = None
    clip_skip: int | None = None
    guidance_rescale: float | None = None
    controlnet: str | None = None
    strength: float | None = None
    controlnet_scale: float | None = None

    def __post_init__(self) -> None:
        arguments = (*self.load_arguments, *self.scheduler_options)
        for name in (self.pipeline_class, self.scheduler_class, *arguments):
            if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
                raise ValueError(f"not the name of a class or of an argument: {name!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        calls = {part.call for part in self.parts} - {"pipe"}
        if len(calls) > 1:
            raise ValueError(f"only one accelerator can replace the call; got {sorted(calls)}")
        names = [name for part in self.parts for name, _ in part.arguments]
        if len(set(names)) < len(names):
            raise ValueError(f"accelerators repeat an argument of the call: {names}")

    @property
    def call(self) -> str:
        """The expression to call, e.g. ``pipe``."""
        return next((part.call for part in self.parts if part.call != "pipe"), "pipe")


def imported(statements: Iterable[str]) -> list[str]:
    """The same import statements, each once.

    Raises:
        ValueError: one is not an absolute import.
    """
    found = list(dict.fromkeys(statements))
    for statement in found:
        for node in ast.parse(statement).body:
            absolute = isinstance(node, ast.ImportFrom) and node.module and not node.level
            if not absolute and not isinstance(node, ast.Import):
                raise ValueError(f"not an absolute import: {statement!r}")
    return found


def formatted(source: str) -> str:
    """A script as ruff lays it out: imports merged and sorted, lines of at most `LINE` characters.

    Raises:
        SyntaxError: it is no Python.
    """
    for arguments in RUFF:
        done = subprocess.run(
            [find_ruff_bin(), *arguments, "--isolated", "--quiet", "-"],
            input=source,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != 0:
            raise SyntaxError(f"ruff cannot format a script: {done.stderr.strip()}")
        source = done.stdout
    return source


def _load(script: Script) -> list[str]:
    """The lines that load the pipeline, as `diffaccel.plugins.models.base.Family` does."""
    more = {name: literal(value) for name, value in script.load_arguments.items()}
    parts = [
        _load_part(script, name, kind, source)
        for name, (kind, source) in {
            "vae": ("AutoencoderKL", script.vae),
            "controlnet": ("ControlNetModel", script.controlnet),
        }.items()
        if source is not None
    ]
    more |= {name: name for name in ("vae", "controlnet") if getattr(script, name) is not None}
    places = {name: _place(name, script) for name in _sources(script)}
    added = additions.lines(script, places)
    return [*parts, _load_pipeline(script, more), *added]


def _sources(script: Script) -> dict[str, str]:
    """What is loaded, by the names of its constants."""
    sources = {"MODEL": script.model, "CONFIG": script.config, "VAE": script.vae}
    sources["CONTROLNET"] = script.controlnet
    sources |= additions.constants(script)
    return {name: source for name, source in sources.items() if source is not None}


def _beside(script: Script) -> set[str]:
    """The constants that are paths which begin in the folder of the project."""
    return {
        name
        for name, source in _sources(script).items()
        if is_local(source) and not Path(source).is_absolute()
    }


def _place(name: str, script: Script) -> str:
    """A constant, found where it is a path of the project."""
    return f"find({name})" if name in _beside(script) else name


def _load_pipeline(script: Script, more: Mapping[str, str]) -> str:
    if script.config is not None:
        revision = split(script.config)[1]
        arguments = {"config": _place("CONFIG", script), "dtype": "dtype"}
        if revision is not None:
            arguments["revision"] = literal(revision)
        how = "from_single_file"
    else:
        arguments = {"dtype": "dtype", "use_safetensors": "True"}
        own = {"revision": split(script.model)[1], "variant": script.variant}
        given = "in (MODEL, find(MODEL))" if "MODEL" in _beside(script) else "== MODEL"
        for name, value in own.items():
            if value is not None:  # and so only of this model, not of one given in its place
                arguments[name] = f"{literal(value)} if model {given} else None"
        how = "from_pretrained"
    return _call(f"pipe = {script.pipeline_class}.{how}", "model", arguments | dict(more))


def _load_part(script: Script, name: str, kind: str, source: str) -> str:
    revision = split(source)[1]
    arguments = {"dtype": "dtype", "use_safetensors": "True"}
    if revision is not None:
        arguments["revision"] = literal(revision)
    return _call(f"{name} = {kind}.from_pretrained", _place(name.upper(), script), arguments)


def _scheduler(script: Script) -> str:
    """The sampler, as `diffaccel.plugins.schedulers.made` does it."""
    options = {name: literal(value) for name, value in script.scheduler_options.items()}
    return _call(f"{script.scheduler_class}.from_config", "pipe.scheduler.config", options)


def _call(function: str, first: str, arguments: Mapping[str, str]) -> str:
    named = "".join(f", {name}={source}" for name, source in arguments.items())
    return f"{function}({first}{named})"


def _summary(script: Script) -> list[str]:
    """The paragraphs of the script's docstring."""
    accelerated = f", accelerated by {script.title}" if script.title else ""
    paragraphs = [
        f"{edits.title(script)} with {split(script.model)[0]}: {script.scheduler_class}, "
        f"{script.steps} steps{accelerated}.",
        f"Task: {script.description}",
        f"Pipeline: {script.pipeline_class}, {script.width}x{script.height} pixels, "
        f"guidance scale {script.guidance_scale}",
        *additions.summary(script),
        *edits.summary(script),
    ]
    if script.parameters:
        values = (f"{name}={value!r}" for name, value in flatten(script.parameters).items())
        paragraphs.append(f"Parameters: {', '.join(values)}")
    if (measured := script.measured) is not None:
        low, high = measured.loss_interval
        versions = (f"{name} {version}" for name, version in measured.versions.items())
        paragraphs += [
            f"Measured: {measured.speedup}x the speed without accelerators; CLIP score loss "
            f"{measured.loss:.4f} ({measured.confidence:.0%} interval {low:.4f} to {high:.4f}) "
            f"over {measured.prompts} prompts",
            *(["Limits: " + "; ".join(measured.limits)] if measured.limits else []),
            f"Hardware: {measured.hardware}",
            f"Versions: {', '.join(versions)}",
            f"Date: {measured.date}",
        ]
    flags = f"{edits.flags(script)} --seed 0 --out {edits.out(script)}"
    paragraphs.append(f'Run: python THIS_FILE --prompt "..."{flags}')
    return paragraphs


@cache
def templates() -> Environment:
    """What renders the files of `TEMPLATES`; an unknown name in one is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Python source and Markdown, not HTML
    )
    return environment


def render(script: Script) -> str:
    """The script's source, laid out by ruff."""
    entered = [part for part in script.parts if part.enter]
    imports = [
        *OWN_IMPORTS,
        f"from diffusers import {script.pipeline_class}, {script.scheduler_class}",
        *(("from diffusers import AutoencoderKL",) if script.vae is not None else ()),
        *additions.imports(script),
        *edits.imports(script),
        *(ACCELERATED_IMPORTS if entered else ()),
        *(statement for part in script.parts for statement in part.imports),
    ]
    asked = {name: said for name, said in ASKED.items() if getattr(script, name) is not None}
    constants: dict[str, Plain] = {
        **{name: split(source)[0] for name, source in _sources(script).items()},
        "STEPS": script.steps,
        "GUIDANCE_SCALE": script.guidance_scale,
        "HEIGHT": script.height,
        "WIDTH": script.width,
        **{name.upper(): getattr(script, name) for name in asked},
        **edits.constants(script),
    }
    call = {name: value for name, value in CALL.items() if name not in edits.left_out(script)}
    arguments = (
        edits.arguments(script)
        | call
        | asked
        | {name: value for part in script.parts for name, value in part.arguments}
    )
    unused = set(call.values()) - set(arguments.values())
    source = (
        templates()
        .get_template("script.py.jinja")
        .render(
            docstring=docstring(_summary(script)),
            imports=imported(imports),
            constants=[assign(n, value) for n, value in constants.items() if n not in unused],
            pipeline_class=script.pipeline_class,
            scheduler=_scheduler(script),
            dtype=script.dtype,
            load=_load(script),
            definitions=[text for part in script.parts for text in part.definitions],
            parts=entered,
            call=script.call,
            arguments=arguments,
            beside=_beside(script),
            negative=script.negative_prompt is not None,
            inputs=edits.taken(script),
            out=edits.out(script),
            fitting=edits.lines(script),
            place=_place("MODEL", script),
            model_is="folder or hub id" if script.config is None else "single file",
        )
    )
    return formatted(source)
