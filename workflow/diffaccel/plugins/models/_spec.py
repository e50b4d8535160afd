"""What a model is, as it is configured and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from diffaccel.plugins import sources
from diffaccel.plugins.metrics.base import MetricChoice
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, Input
from diffaccel.plugins.schedulers import Option, SchedulerSpec, options_for
from diffaccel.store.jsonio import UNSAID, UNSET


@dataclass(frozen=True)
class Lora:
    """A LoRA on a model.

    Args:
        source: a ``.safetensors`` file, a folder with one, or a hub id.
        weight: what its change of the weights is multiplied by.
        weight_name: of the file in the folder or the repository; None: the only one, or the one
            that diffusers names so.
    """

    source: str
    weight: float = 1.0
    weight_name: Annotated[str | None, UNSAID] = None


@dataclass(frozen=True)
class TextualInversion:
    """A word of its own that a model is taught.

    Args:
        source, weight_name: as of a `Lora`.
        token: the word, as prompts have it.
    """

    source: str
    token: str
    weight_name: Annotated[str | None, UNSAID] = None


Addition = Lora | TextualInversion


def place_of(addition: Addition) -> str:
    """The local file of an addition, where its folder's file is named; of one on a hub, its id."""
    if addition.weight_name is None or not sources.is_local(addition.source):
        return addition.source
    return (Path(addition.source) / addition.weight_name).as_posix()


@dataclass(frozen=True)
class ModelSpec:
    """A model as it is measured.

    Args:
        name: as in tasks and paths.
        family: the file in `diffaccel.plugins.models` that loads it.
        source: a folder in diffusers' format, a single ``.safetensors`` file, or a hub id, with or
            without a revision: ``owner/name@revision``. All hub ids here may have one.
        height, width: image size in pixels.
        guidance_scale: of classifier-free guidance; at most 1 turns it off.
        batch_size: prompts per pipeline call.
        scorer: folder or hub id of the CLIP model that scores.
        prompts: file of prompts, one a line.
        heldout: file of prompts that nothing is chosen by, to verify scripts on; where it is None,
            what follows in ``prompts`` after those that are measured with.
        dtype: ``float32``, ``float16``, ``bfloat16``, or ``auto`` (half precision on a GPU).
        threads: CPU threads that a job computes on; 0 is all that it is given.
        jobs_per_gpu: how many jobs may evaluate with it on one GPU at once; more than 1 for
            networks too small to fill it. Only one is timed at a time, while the others wait.
        variant: of the weight files, as in ``unet/diffusion_pytorch_model.fp16.safetensors``.
        config: folder or hub id of the configuration that a single file is loaded with; the
            family's own where it is None.
        vae: folder or hub id of another VAE than the source's own.
        untrained: random weights, of the sizes of the folder that ``source`` names, or of the
            family's published sizes where it is empty. For speed alone: scores of such images
            mean nothing.
        prediction_type: what the U-Net predicts, ``epsilon`` or ``v_prediction``, where its
            scheduler's file does not say so; None: as it says.
        rescale_betas_zero_snr: whether it was trained down to a signal of zero; None: as its
            scheduler's file says.
        scheduler_config: content of that file; None before the model was looked at.
        lora: on top of its weights, all at once.
        fused: whether these are added to the weights before it generates, which is a little faster
            and rounds otherwise; else they are computed beside them.
        textual_inversion: words of their own, for prompts to use.
        negative_prompt: of every prompt that has none of its own; None: there is none.
        clip_skip: how many of the text encoders' last layers are left out; None: as diffusers does.
        guidance_rescale: share by which guided noise gets the spread of the unguided (Lin et al.,
            2024, arXiv:2305.08891, section 3.4); None: not at all.
        metrics: what its images are scored by beside the usual metrics.
        task: what it is used for, a file in `diffaccel.plugins.pipeline_tasks`; None:
            text-to-image.
        inputs: folder of the images that prompts come with.
        heldout_inputs: the same of ``heldout``.
        strength: share of the steps that an image is changed in, above 0 and at most 1.
        controlnet: folder or hub id.
        controlnet_scale: what the ControlNet's output is multiplied by.
    """

    name: str
    family: str
    source: str
    height: int
    width: int
    guidance_scale: float
    batch_size: int
    scorer: str
    prompts: str
    dtype: str = "auto"
    threads: int = 0
    jobs_per_gpu: int = 1
    variant: str | None = None
    config: str | None = None
    vae: str | None = None
    untrained: bool = False
    heldout: str | None = None
    prediction_type: Annotated[str | None, UNSAID] = None
    rescale_betas_zero_snr: Annotated[bool | None, UNSAID] = None
    scheduler_config: Annotated[dict[str, Any] | None, UNSAID] = None
    lora: Annotated[tuple[Lora, ...], UNSAID] = ()
    fused: Annotated[bool, UNSET] = False
    textual_inversion: Annotated[tuple[TextualInversion, ...], UNSAID] = ()
    negative_prompt: Annotated[str | None, UNSAID] = None
    clip_skip: Annotated[int | None, UNSAID] = None
    guidance_rescale: Annotated[float | None, UNSAID] = None
    metrics: Annotated[tuple[MetricChoice, ...], UNSAID] = ()
    task: Annotated[str | None, UNSAID] = None
    inputs: Annotated[str | None, UNSAID] = None
    heldout_inputs: Annotated[str | None, UNSAID] = None
    strength: Annotated[float | None, UNSAID] = None
    controlnet: Annotated[str | None, UNSAID] = None
    controlnet_scale: Annotated[float | None, UNSAID] = None

    def scheduler_options(self, wanted: SchedulerSpec) -> dict[str, Option]:
        """The arguments of ``from_config`` that make a scheduler of this model's own."""
        own = self.scheduler_config
        told: dict[str, Option] = {
            "prediction_type": self.prediction_type,
            "rescale_betas_zero_snr": self.rescale_betas_zero_snr,
        }
        said = {
            name: value
            for name, value in told.items()
            if value is not None and (own is None or own.get(name, DEFAULTS[name]) != value)
        }
        return {**options_for(wanted, own), **said}

    @property
    def inputs_taken(self) -> tuple[Input, ...]:
        """What each prompt comes with besides its text."""
        return PIPELINE_TASKS[self.task].inputs if self.task else ()

    @property
    def sized(self) -> bool:
        """Whether its pipeline is told the size of the images."""
        return self.task is None or PIPELINE_TASKS[self.task].sized

    @property
    def additions(self) -> tuple[Addition, ...]:
        """All that is loaded on top of its own files."""
        return (*self.textual_inversion, *self.lora)


DEFAULTS: Mapping[str, Option] = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
"""Of all classes of schedulers."""
