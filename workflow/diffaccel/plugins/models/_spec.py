"""What a model is, as it is configured and measured."""

from __future__ import annotations

from dataclasses import dataclass


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
