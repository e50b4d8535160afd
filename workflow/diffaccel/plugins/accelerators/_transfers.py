"""Methods of a pipeline's parts that wait for nothing. Scripts contain them as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def times_stay(scheduler: Any) -> Callable[..., None]:
    """A sampler's ``set_timesteps``, with times that the processor can read without waiting."""
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)
    def call(*args: Any, **kwargs: Any) -> None:
        set_timesteps(*args, **kwargs)  # some samplers compute the times, which rounds by device
        if scheduler.timesteps.is_cuda:  # which fetches pinned memory by itself
            scheduler.timesteps = scheduler.timesteps.cpu().pin_memory()

    return call


def times_follow(unet: Any) -> Callable[..., Any]:
    """A U-Net's ``forward``, which has the time fetched while the processor goes on."""
    forward = unet.forward

    @functools.wraps(forward)
    def call(sample: torch.Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.to(sample.device, non_blocking=True)
        return forward(sample, timestep, *args, **kwargs)

    return call


def bytes_first(processor: Any) -> Callable[..., Any]:
    """An image processor's ``postprocess``, which makes bytes before it makes PIL images."""
    from PIL import Image

    postprocess = processor.postprocess

    @functools.wraps(postprocess)
    def call(image: torch.Tensor, output_type: str = "pil", **kwargs: Any) -> Any:
        if output_type != "pil" or image.shape[1] != 3:
            return postprocess(image, output_type=output_type, **kwargs)
        image = postprocess(image, output_type="pt", **kwargs).permute(0, 2, 3, 1).float()
        return [Image.fromarray(each) for each in (image * 255).round().byte().cpu().numpy()]

    return call
