"""What the scripts of a configuration are judged by, and what they see of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffaccel.benchmark.judge.limits import GIB, Limits
from diffaccel.benchmark.judge.links import with_links
from diffaccel.benchmark.judge.mounts import CODE, SandboxMounts
from diffaccel.benchmark.judge.static import THROUGH, Wanted
from diffaccel.evaluation import bench as benches
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import RULES, JudgeOptions, MeasureOptions
from diffaccel.experiment.prompts import read_prompts, texts_of
from diffaccel.experiment.tasks import Category, Request
from diffaccel.machine import devices, threads
from diffaccel.plugins import sources
from diffaccel.plugins.metrics import METRICS, SCORE
from diffaccel.plugins.models import FAMILIES, ModelSpec, content_hash, fingerprint, resolve_dtype
from diffaccel.plugins.models._spec import place_of
from diffaccel.recipes import scripts as code
from diffaccel.store.jsonio import digest, read_json, to_json

MOST_PROMPTS = 100_000
BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


@dataclass(frozen=True)
class JudgeConfiguration:
    """A configuration with all that its scripts are judged by.

    Args:
        spec: the model, fetched.
        loss_limit: where a task names none.
    """

    configuration: Configuration
    spec: ModelSpec
    measure: MeasureOptions
    options: JudgeOptions
    loss_limit: float
    platform: str

    @property
    def family(self) -> Any:
        return FAMILIES[self.spec.family]

    @property
    def limits(self) -> Limits:
        options = self.options
        memory = int(options.memory_gib * GIB)
        return Limits(
            memory=memory, load_seconds=options.load_seconds, call_seconds=options.call_seconds
        )

    def wanted(self, request: Request) -> Wanted:
        """What a script must do by its syntax."""
        open_choice = request.category is Category.LATENCY and not request.accelerators
        return Wanted(
            pipeline_class=self.family.pipeline_class,
            source=sources.split(self.spec.source)[0],
            scheduler_class=self.configuration.sampler.diffusers,
            own_scheduler=own_scheduler(self.spec.source),
            steps=self.configuration.steps,
            accelerators=None if open_choice else frozenset(request.accelerators),
            guided=self.spec.guidance_scale > 1,
            lora=bool(self.spec.lora),
        )

    def watched(self, device: str) -> dict[str, Any] | None:
        """What a `witness.Witness` sees to while a script generates.

        Args:
            device: torch's name of it.
        """
        dtype = resolve_dtype(self.spec.dtype, device)
        return {
            "pipeline": self.family.pipeline_class,
            "scheduler": self.configuration.sampler.diffusers,
            "scheduler_options": self.spec.scheduler_options(self.configuration.sampler),
            "through": sorted(THROUGH),
            "steps": self.configuration.steps,
            "guided": self.spec.guidance_scale > 1,
            "bits": BITS[dtype],
        }

    def baseline_script(self) -> str:
        """The source of the baseline pipeline's script."""
        return code.baseline_script(
            self.spec, self.configuration, "the baseline pipeline, to compare with"
        )

    def prompts(self) -> list[str]:
        """The texts of all prompts of the model's file, of which some are generated: what else
        their lines say, scripts are not told."""
        path, least = Path(self.spec.prompts), self.measure.prompts
        return texts_of(read_prompts(path, least, most=MOST_PROMPTS))

    def provenance(self) -> dict[str, Any]:
        """What judgements depend on, in words."""
        return {
            "configuration": to_json(self.configuration),
            "spec": to_json(self.spec),
            "options": to_json(self.measure),
            "judge": to_json(self.options),
            "platform": self.platform,
        }

    def digest(self) -> str:
        """Of all that judgements depend on, besides scripts and tasks and chance."""
        spec, prompts = self.spec, self.prompts()
        scoring = METRICS[SCORE].adaptation(spec.scorer, spec.height, spec.width, prompts)
        return digest(
            [
                RULES,
                to_json(self.configuration),
                fingerprint(spec),
                content_hash(spec.scorer),
                to_json(replace(spec, scorer="", source="", prompts="", metrics=())),
                prompts,
                to_json(self.measure),
                to_json(self.options),
                self.loss_limit,
                self.platform,
                devices.describe(),
                benches.versions(),
                *([scoring] if scoring else []),
            ]
        )


def own_scheduler(source: str) -> str | None:
    """The class of the scheduler that a model comes with, where a file here tells it."""
    file = "scheduler/scheduler_config.json"
    path: Any = Path(source) / file
    if not sources.is_local(source):
        from huggingface_hub import try_to_load_from_cache

        name, revision = sources.split(source)
        path = try_to_load_from_cache(name, file, revision=revision)
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    return str(read_json(Path(path)).get("_class_name"))


def sandbox_mounts(spec: ModelSpec, *, gpu: bool) -> SandboxMounts:
    """What a script of a model sees: the model, what is loaded on top of it, all that links in them
    lead to, and nothing else of this machine's files."""
    readable: dict[str, Path] = {}
    environment: dict[str, str] = {}
    for source in (spec.source, spec.vae, spec.config, *map(place_of, spec.additions)):
        if source is None:
            continue
        if sources.is_local(source):
            place = os.path.normpath(os.path.join(CODE, source))
            readable[place] = Path(source).resolve()
        else:
            from huggingface_hub import constants

            name = "models--" + sources.split(source)[0].replace("/", "--")
            readable[str(Path(constants.HF_HUB_CACHE) / name)] = Path(constants.HF_HUB_CACHE, name)
            environment["HF_HUB_CACHE"] = constants.HF_HUB_CACHE
    if gpu:
        kept = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
        environment |= {name: os.environ[name] for name in kept if name in os.environ}
        environment[threads.GIVEN] = str(threads.of(spec.threads, gpu=True))
    cores = 0 if gpu else threads.of(spec.threads)
    return SandboxMounts(with_links(readable), gpu, environment, cores)
