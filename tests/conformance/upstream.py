"""The packages' own documented usage, as a user would write it: their READMEs, with parameters.

DeepCache 0.1.1: "Usage"; tgate 1.0.0: "Accelerate StableDiffusionXLPipeline with TGATE", and "with
DeepCache and TGATE"; tomesd 0.1.3: "Diffusers".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .drawing import Images, Setting, generate

Draw = Callable[..., Images]


def documented(pipe: Any, scheduler: str, setting: Setting, draw: Draw = generate) -> Images:
    """Images with these accelerators on a new pipeline, which is not put back after it."""
    import diffusers

    sampler = getattr(diffusers, scheduler)
    if "tgate" in setting:
        return _tgate(pipe, sampler, setting, draw)
    pipe.scheduler = sampler.from_config(pipe.scheduler.config)
    for name in EACH:
        if name in setting:
            EACH[name](pipe, setting[name])
    return draw(pipe)


def _deepcache(pipe: Any, parameters: Any) -> None:
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(**parameters)
    helper.enable()


def _tome(pipe: Any, parameters: Any) -> None:
    import tomesd
    import torch

    tomesd.apply_patch(pipe, **parameters)
    torch.manual_seed(0)  # "you might need to set the seed every batch"


def _tgate(pipe: Any, sampler: Any, setting: Setting, draw: Draw) -> Images:
    import diffusers
    from tgate import (
        TgateSDDeepCacheLoader,
        TgateSDLoader,
        TgateSDXLDeepCacheLoader,
        TgateSDXLLoader,
    )

    large = isinstance(pipe, diffusers.StableDiffusionXLPipeline)
    if "deepcache" in setting:
        load = TgateSDXLDeepCacheLoader if large else TgateSDDeepCacheLoader
        pipe = load(pipe, **setting["deepcache"])
    else:
        pipe = TgateSDXLLoader(pipe) if large else TgateSDLoader(pipe)
    pipe.scheduler = sampler.from_config(pipe.scheduler.config)
    for name in EACH:
        if name in setting and name != "deepcache":
            EACH[name](pipe, setting[name])
    return draw(lambda *args, **kwargs: pipe.tgate(*args, **setting["tgate"], **kwargs))


EACH: dict[str, Callable[[Any, Any], None]] = {"deepcache": _deepcache, "tome": _tome}
"""How each accelerator that keeps the call ``pipe(...)`` is put on, in the order of application."""
DOCUMENTED = {"tgate", *EACH}
