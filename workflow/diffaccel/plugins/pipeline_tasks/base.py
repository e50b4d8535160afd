"""What a task of a pipeline is: which class of diffusers does it, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SETTINGS: Mapping[str, str] = {
    "strength": "strength",
    "controlnet_scale": "controlnet_conditioning_scale",
}
"""Arguments of a pipeline's call that only tasks have, by the model's key."""

SIZE = ("height", "width")
"""Those that a task's call may not take: see `PipelineTask.sized`."""


@dataclass(frozen=True)
class Input:
    """An image that each prompt comes with.

    Args:
        name: of a prompt file's column and of a script's flag; its plural is the argument of a
            script's ``generate``.
        argument: of the pipeline's call.
        mode: PIL's, that it is converted to.
        resampling: name of PIL's filter that it is resized by.
        ending: what the names of its files end in, before the suffix; empty for the image itself.
    """

    name: str
    argument: str
    mode: str = "RGB"
    resampling: str = "LANCZOS"
    ending: str = ""

    @property
    def plural(self) -> str:
        return f"{self.name}s"


IMAGE = Input("image", "image")


@dataclass(frozen=True)
class PipelineTask:
    """A task. The instance ``PLUGIN`` of a file is the plugin.

    Args:
        name: as in config's ``task``.
        title: as a sentence begins with it.
        classes: diffusers' class, by that of the family's text-to-image pipeline.
        inputs: what each prompt comes with, the image first.
        strengths: diffusers' own default of ``strength`` by class; empty: there is none.
        sized: whether the call takes ``height`` and ``width``; else the image's size is that.
        controlled: whether it takes a ControlNet.
        rescales: classes whose call takes ``guidance_rescale``.
        channels: of the input of U-Nets that are made for it, besides those of latents.
        beside: what runs at each step beside the U-Net, as a share of the U-Net's time.
    """

    name: str
    title: str
    classes: Mapping[str, str]
    inputs: tuple[Input, ...] = (IMAGE,)
    strengths: Mapping[str, float] | None = None
    sized: bool = True
    controlled: bool = False
    rescales: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    beside: float = 0.0


def steps_run(steps: int, strength: float | None) -> int:
    """How many of a sampler's steps a call makes: the last ones.

    Args:
        strength: of an image's change, above 0 and at most 1; None: all steps.

    Source: ``get_timesteps`` of diffusers' image-to-image and inpainting pipelines (0.42.1).
    """
    return steps if strength is None else min(int(steps * strength), steps)


def fitted(image: Image.Image, kind: Input, width: int, height: int) -> Image.Image:
    """An image as a pipeline gets it: cropped at its centre to the proportions asked for, then
    resized. What has the size already stays as it is. Scripts do the same.

    Args:
        width, height: in pixels.
    """
    from PIL import Image, ImageOps

    filtered = Image.Resampling[kind.resampling]
    return ImageOps.fit(image.convert(kind.mode), (width, height), filtered)
