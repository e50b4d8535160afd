"""The lines of a script whose prompts come with images, as diffusers documents its pipelines.

`diffaccel.evaluation.calls` gives the same to what is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffaccel.plugins.pipeline_tasks import SETTINGS, SIZE, Input, task_of
from diffaccel.plugins.sources import split
from diffaccel.recipes.literals import Plain

if TYPE_CHECKING:
    from diffaccel.recipes.codegen import Script


def taken(script: Script) -> tuple[Input, ...]:
    """What each prompt comes with; nothing for text-to-image."""
    task = task_of(script.pipeline_class)
    return task.inputs if task else ()


def imports(script: Script) -> tuple[str, ...]:
    """What the lines need."""
    if not taken(script):
        return ()
    controlled = ("from diffusers import ControlNetModel",) if script.controlnet else ()
    return ("from PIL import ImageOps", "from diffusers.utils import load_image", *controlled)


def constants(script: Script) -> dict[str, Plain]:
    """Settings of the call, by the names of their constants."""
    return {key.upper(): getattr(script, key) for key in _settings(script)}


def arguments(script: Script) -> dict[str, str]:
    """Keyword arguments of the call, as source, which it has on top."""
    return {
        **{each.argument: each.plural for each in taken(script)},
        **{SETTINGS[key]: key.upper() for key in _settings(script)},
    }


def left_out(script: Script) -> tuple[str, ...]:
    """Keyword arguments that the call does not take: an image has a size already."""
    task = task_of(script.pipeline_class)
    return SIZE if task and not task.sized else ()


def _settings(script: Script) -> list[str]:
    return [key for key in SETTINGS if getattr(script, key) is not None]


def lines(script: Script) -> list[str]:
    """The lines that make images as large as those that are generated, in ``generate``."""
    return [
        f"{each.plural} = [ImageOps.fit({each.name}.convert({each.mode!r}), (WIDTH, HEIGHT), "
        f"Image.Resampling.{each.resampling}) for {each.name} in {each.plural}]"
        for each in taken(script)
    ]


def title(script: Script) -> str:
    """What a script does, as its docstring begins."""
    task = task_of(script.pipeline_class)
    return task.title if task else "Text-to-image"


def summary(script: Script) -> list[str]:
    """Paragraphs of a script's docstring."""
    if not taken(script):
        return []
    found = [] if script.strength is None else [f"Strength: {script.strength:g}"]
    if script.controlnet is not None:
        scale = script.controlnet_scale
        found.append(f"ControlNet: {split(script.controlnet)[0]}, scale {scale}")
    size = f"{script.width}x{script.height}"
    return [*found, f"Images: cropped at their centre to the proportions of {size}, then resized"]


def flags(script: Script) -> str:
    """What its command line takes besides, as an example."""
    files = {each.name: f"{each.name}.png" for each in taken(script)} | {"image": "photo.png"}
    return "".join(f" --{each.name} {files[each.name]}" for each in taken(script))


def out(script: Script) -> str:
    """The file that its command line writes to by itself: hardly one that it was given."""
    return "edited.png" if taken(script) else "image.png"
