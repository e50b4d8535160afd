"""What search spaces, step kinds and emitted code depend on of a pipeline."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from diffaccel.plugins.pipeline_tasks import steps_run, task_of
from diffaccel.plugins.sizes import height_and_width
from diffaccel.store.jsonio import UNSAID

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class PipelineSpec:
    """What search spaces and emitted code depend on, known without the weights.

    Args:
        pipeline_class: diffusers' class name, e.g. ``StableDiffusionPipeline``.
        steps: number of inference steps.
        block_layers: layers that DeepCache counts in each down block (its ResNet blocks and one
            for a downsampler), from the first block on; SD1.5 has ``(3, 3, 3, 2)``.
        transformer_downsamples: downsampling factors, relative to the latents, of the U-Net levels
            that have transformer blocks, ascending; SD1.5 has ``(1, 2, 4, 8)``.
        guided: whether classifier-free guidance runs (guidance scale above 1).
        latent_size: height and width of the latents that the U-Net is made for; one number where
            they are the same.
        device: torch's name of the kind of device that it is on.
        order: calls of the U-Net for a step of its scheduler; the last step has one.
        extra: calls on top of these, before all others.
        same_time: for each call, the first call at the same time of the noise schedule, counted
            from that of the first call; empty where all calls have times of their own.
        generated: height and width of the latents that are generated; None where nobody knows, as
            in records of before: it is taken to be ``latent_size``.
        middle_block: whether the U-Net has a middle block.
        strength: share of the steps, the last ones, that are run; None: all.
    """

    pipeline_class: str
    steps: int
    block_layers: tuple[int, ...]
    transformer_downsamples: tuple[int, ...]
    guided: bool = True
    latent_size: int | tuple[int, int] = 64
    device: str = "cpu"
    order: int = 1
    extra: int = 0
    same_time: tuple[int, ...] = ()
    generated: tuple[int, int] | None = None

    middle_block: bool = True
    strength: Annotated[float | None, UNSAID] = None

    @property
    def latent_sides(self) -> tuple[int, int]:
        """Height and width of the latents that the U-Net is made for."""
        size = self.latent_size
        return (size, size) if isinstance(size, int) else size

    @property
    def calls(self) -> int:
        """How often the U-Net is called."""
        return self.calls_in(self.steps)

    def calls_in(self, steps: int) -> int:
        """The same in another number of steps; none where nothing is left of these."""
        left = self.run_of(steps)
        return self.order * left - (self.order - 1) + self.extra if left else 0

    @property
    def steps_run(self) -> int:
        """How many of the steps are run."""
        return self.run_of(self.steps)

    def run_of(self, steps: int) -> int:
        """The same of another number of steps."""
        return steps_run(steps, self.strength)

    def relative_cost(self, unet: float) -> float:
        """What is left of the time of a step where so much is left of the U-Net's: what runs beside
        it, a ControlNet, takes as long as ever."""
        task = task_of(self.pipeline_class)
        beside = task.beside if task else 0.0
        return (unet + beside) / (1 + beside)

    @property
    def first_at_time(self) -> tuple[int, ...]:
        """For each call, the first one at the same time."""
        return self.same_time or tuple(range(self.calls))

    @classmethod
    def of(
        cls,
        pipe: DiffusionPipeline,
        *,
        steps: int,
        guidance_scale: float,
        size: tuple[int, int] | None = None,
        strength: float | None = None,
    ) -> PipelineSpec:
        """That of a loaded pipeline; of one without a U-Net, that it has no blocks.

        Args:
            size: height and width of the images, in pixels; None: those that it is made for.
            strength: share of the steps that are run; None: all.
        """
        unet, vae = (
            {} if (part := getattr(pipe, name, None)) is None else part.config
            for name in ("unet", "vae")
        )
        pipeline = cls.of_config(
            type(pipe).__name__,
            unet,
            steps=steps,
            guidance_scale=guidance_scale,
            size=size,
            vae=vae,
        )
        times = _times(pipe, steps)
        order = getattr(pipe.scheduler, "order", 1)
        left_out = order * (steps - steps_run(steps, strength))
        # As a pipeline finds them among all times, also where the first of these is left out.
        found = [times.index(time) for time in times][left_out:]
        first = tuple(place - found[0] for place in found)
        return dataclasses.replace(
            pipeline,
            device=pipe.device.type,
            order=order,
            extra=len(times) - (order * steps - (order - 1)) if times else 0,
            same_time=() if first == tuple(range(len(first))) else first,
            strength=strength,
        )

    @classmethod
    def of_config(
        cls,
        pipeline_class: str,
        unet: Mapping[str, Any],
        *,
        steps: int,
        guidance_scale: float,
        size: tuple[int, int] | None = None,
        vae: Mapping[str, Any] | None = None,
        strength: float | None = None,
    ) -> PipelineSpec:
        """The same from ``unet/config.json`` and, for the size, ``vae/config.json`` alone.

        A UNet2DConditionModel's level i works at 1/2**i of the latents' size, has a downsampler
        unless it is the last, and has transformer blocks where its block type says CrossAttn. An
        AutoencoderKL halves an image's height and width between two blocks.
        """
        kinds = tuple(unet.get("down_block_types", ()))
        layers = unet.get("layers_per_block", 2)
        per_block = [layers] * len(kinds) if isinstance(layers, int) else list(layers)
        levels = {2**i for i, kind in enumerate(kinds) if "CrossAttn" in kind}
        middle = unet.get("mid_block_type", "UNetMidBlock2DCrossAttn")
        if kinds and "CrossAttn" in (middle or ""):
            levels.add(2 ** (len(kinds) - 1))
        height, width = height_and_width(unet.get("sample_size")) or (64, 64)
        return cls(
            pipeline_class=pipeline_class,
            steps=steps,
            block_layers=tuple(n + (i < len(kinds) - 1) for i, n in enumerate(per_block)),
            transformer_downsamples=tuple(sorted(levels)),
            # A distilled U-Net takes the scale as an input and is never run twice.
            guided=guidance_scale > 1 and unet.get("time_cond_proj_dim") is None,
            latent_size=height if height == width else (height, width),
            generated=_latents(size, vae or {}),
            middle_block=middle is not None,
            strength=strength,
        )

    def tokens(self, downsample: int) -> tuple[int, int]:
        """Rows and columns of the tokens at a downsampling of the latents that are generated: a
        downsampler rounds up."""
        height, width = self.generated or self.latent_sides
        return math.ceil(height / downsample), math.ceil(width / downsample)


def _latents(size: tuple[int, int] | None, vae: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the latents of images of that many pixels."""
    blocks = vae.get("block_out_channels")
    if size is None or not blocks:
        return None
    factor = 2 ** (len(blocks) - 1)
    return size[0] // factor, size[1] // factor


def _times(pipe: DiffusionPipeline, steps: int) -> list[float]:
    """The times at which so many steps call the U-Net; the pipeline's scheduler stays as it is."""
    if steps < 1:
        return []
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps)
    times: list[float] = scheduler.timesteps.tolist()
    return times
