"""Tiny pipelines of every task, their prompts' images, and diffusers' documented usage of both."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from diffaccel.evaluation.calls import Bench
from diffaccel.experiment import inputs
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.resolve import model_spec
from diffaccel.experiment.schema import ModelEntry
from diffaccel.machine.devices import Device
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes import scripts
from diffaccel.recipes.codegen import render

from .generating import GUIDANCE, PROMPTS, Images, Parameters, decoded

STEPS = 6
SIDE = 2 * tiny.LATENT_SIZE
STRENGTH = 0.7
"""Of six steps four are left."""
CONTROL = 0.8
CLASSES = {
    ("image-to-image", "SD1.5"): "StableDiffusionImg2ImgPipeline",
    ("image-to-image", "SDXL"): "StableDiffusionXLImg2ImgPipeline",
    ("inpainting", "SD1.5"): "StableDiffusionInpaintPipeline",
    ("inpainting", "SDXL"): "StableDiffusionXLInpaintPipeline",
    ("controlnet", "SD1.5"): "StableDiffusionControlNetPipeline",
    ("controlnet", "SDXL"): "StableDiffusionXLControlNetPipeline",
}


def draw(folder: Path, count: int = len(PROMPTS)) -> Path:
    """Images of odd sizes, each with a mask."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = 60 + 7 * number, 45
        noise = rng.integers(0, 255, (height // 5, width // 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height)).save(folder / f"{number}.png")
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).ellipse((15, 5, 45, 35), fill=255)
        mask.save(folder / f"{number}_mask.png")
    return folder


def entry(task: str, family: str, folder: Path, *, channels: int = 4) -> ModelEntry:
    """A model of the task, as a configuration has it; its files are written."""
    save = tiny.save if channels == 4 else tiny.save_inpainting
    prompts = folder / "prompts.txt"
    draw(folder / "inputs")
    prompts.write_text("\n".join(PROMPTS))
    own: dict[str, Any] = {
        "image-to-image": {"strength": STRENGTH},
        "inpainting": {"strength": STRENGTH},
        "controlnet": {"controlnet_scale": CONTROL},
    }[task]
    if task == "controlnet":
        own["controlnet"] = str(tiny.save_controlnet(family, folder / "controlnet"))
    return ModelEntry(
        name="mine",
        family=family,
        source=str(save(family, folder / "model")),
        task=task,
        inputs=str(folder / "inputs"),
        prompts=str(prompts),
        scorer="resources/models/mini-clip",
        guidance_scale=GUIDANCE,
        batch_size=len(PROMPTS),
        dtype="float32",
        **own,
    )


@dataclass(frozen=True)
class Subject:
    """A tiny pipeline of a task, as it is measured.

    Args:
        own: the pipeline that its script loads.
        plain: its images.
    """

    task: str
    family: str
    bench: Bench
    pipeline: PipelineSpec
    own: Any
    plain: Images

    @classmethod
    def of(cls, task: str, family: str, folder: Path, *, channels: int = 4) -> Subject:
        spec = model_spec(entry(task, family, folder, channels=channels))
        pipe = FAMILIES[family].load(spec, "float32", "cpu")
        pipe.scheduler = tiny.FAMILIES[family](0).scheduler
        pipe.set_progress_bar_config(disable=True)
        options = MeasureOptions(prompts=len(PROMPTS))
        prompts = inputs.prompts_of(spec, len(PROMPTS))
        configuration = Configuration(spec.name, "DDIM", STEPS)
        bench = Bench(pipe, configuration, spec, options, prompts, Device("cpu"), {})
        made = cls(task, family, bench, bench.pipeline, None, np.empty(0, np.float32))
        own = made.script(()).load_pipeline(device="cpu")
        own.set_progress_bar_config(disable=True)
        return dataclasses.replace(made, own=own, plain=made.generate(pipe))

    def generate(self, call: Callable[..., Any], **more: Any) -> Images:
        """Images as they are measured, before they are rounded to eight bits."""
        bench = self.bench
        given = bench.inputs(slice(0, len(PROMPTS)))
        arguments = bench.arguments(list(PROMPTS), list(range(len(PROMPTS))), None, given)
        images: Images = call(**{**arguments, "output_type": "np", **more}).images
        return images

    def applied(self, parameters: Parameters) -> Images:
        """Images with a candidate on the pipeline."""
        with combination(sorted(parameters)).applied(self.bench.pipe, parameters) as call:
            return self.generate(call)

    def script(self, names: tuple[str, ...], parameters: Parameters | None = None) -> Any:
        """A generated script as a module, with its ``source``."""
        made = scripts._baseline(self.bench.spec, self.bench.configuration, "a test")
        if names:
            parts = combination(names).emit(parameters or {}, self.pipeline)
            made = dataclasses.replace(made, parts=parts, parameters=parameters or {})
        module = types.ModuleType("script")
        module.source = render(made)  # type: ignore[attr-defined]
        exec(compile(module.source, "script.py", "exec"), vars(module))  # type: ignore[attr-defined]
        return module

    def by_script(self, script: Any) -> Images:
        """Images of a script, which is given the files as they are."""
        given = {
            f"{kind.name}s": [self.opened(getattr(line, kind.name)) for line in self.bench.prompts]
            for kind in self.bench.spec.inputs_taken
        }
        seeds = list(range(len(PROMPTS)))
        return decoded(self.own, lambda: script.generate(self.own, list(PROMPTS), seeds, **given))

    @property
    def folder(self) -> Path:
        """Of the prompts' images."""
        return Path(str(self.bench.spec.inputs))

    def opened(self, name: str) -> Image.Image:
        return Image.open(self.folder / name)


def documented(subject: Subject, parameters: Parameters, **more: Any) -> Images:
    """Images by diffusers' documented usage, written out, and the packages' own."""
    import diffusers
    import torch

    folder = Path(str(subject.bench.spec.inputs)).parent
    task, size = subject.task, (SIDE, SIDE)
    loaded: dict[str, Any] = {}
    if task == "controlnet":
        loaded["controlnet"] = diffusers.ControlNetModel.from_pretrained(folder / "controlnet")
    kind = getattr(diffusers, CLASSES[task, subject.family])
    pipe = kind.from_pretrained(folder / "model", **loaded)
    pipe.scheduler = tiny.FAMILIES[subject.family](0).scheduler
    pipe.set_progress_bar_config(disable=True)
    if "deepcache" in parameters:
        from DeepCache import DeepCacheSDHelper

        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(**parameters["deepcache"])
        helper.enable()
    if "tome" in parameters:
        import tomesd

        tomesd.apply_patch(pipe, **parameters["tome"])
        torch.manual_seed(0)
    images, masks = [], []
    for number in range(len(PROMPTS)):
        image = Image.open(folder / f"inputs/{number}.png").convert("RGB")
        mask = Image.open(folder / f"inputs/{number}_mask.png").convert("L")
        left = (image.width - image.height) / 2  # they are wide: a square from their middle
        box = (left, 0, left + image.height, image.height)
        images.append(image.resize(size, Image.Resampling.LANCZOS, box=box))
        masks.append(mask.resize(size, Image.Resampling.NEAREST, box=box))
    own: dict[str, Any] = {
        "image-to-image": {"image": images, "strength": STRENGTH},
        "inpainting": {
            **{"image": images, "mask_image": masks, "strength": STRENGTH},
            **{"height": SIDE, "width": SIDE},
        },
        "controlnet": {
            **{"image": images, "controlnet_conditioning_scale": CONTROL},
            **{"height": SIDE, "width": SIDE},
        },
    }[task]
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]
    arguments = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
    made: Images = pipe(list(PROMPTS), **{**own, **arguments, **more}, generator=generators).images
    return made
