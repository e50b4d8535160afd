"""The packages' own documented usage, as a user would write it: their READMEs, with parameters.

DeepCache 0.1.1: "Usage"; tgate 1.0.0: "Accelerate StableDiffusionXLPipeline with TGATE", and "with
DeepCache and TGATE"; tomesd 0.1.3: "Diffusers". Fewer steps are an argument of diffusers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .generating import Images, Parameters, generate

Call = Callable[..., Any]


def documented(
    pipe: Any,
    scheduler: str,
    parameters: Parameters,
    generate: Callable[[Call], Images] = generate,
    options: Mapping[str, Any] | None = None,
) -> Images:
    """Images with these accelerators on a new pipeline, which is not put back after it.

    An accelerator whose usage is not here is left out: it has to give the images without it.

    Args:
        options: of the scheduler's class, as diffusers documents them.
    """
    import diffusers

    call: Call = pipe
    for name in EACH:
        if name in parameters:
            call = EACH[name](pipe, parameters) or call
    pipe.scheduler = getattr(diffusers, scheduler).from_config(
        pipe.scheduler.config, **(options or {})
    )
    return generate(call)


def _deepcache(pipe: Any, parameters: Parameters) -> None:
    from DeepCache import DeepCacheSDHelper

    if "tgate" not in parameters:
        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(**parameters["deepcache"])
        helper.enable()


def _tgate(pipe: Any, parameters: Parameters) -> Call:
    import diffusers
    from tgate import (
        TgateSDDeepCacheLoader,
        TgateSDLoader,
        TgateSDXLDeepCacheLoader,
        TgateSDXLLoader,
    )

    large = isinstance(pipe, diffusers.StableDiffusionXLPipeline)
    if "deepcache" in parameters:
        load = TgateSDXLDeepCacheLoader if large else TgateSDDeepCacheLoader
        pipe = load(pipe, **parameters["deepcache"])
    else:
        pipe = TgateSDXLLoader(pipe) if large else TgateSDLoader(pipe)
    return lambda *args, **kwargs: pipe.tgate(*args, **parameters["tgate"], **kwargs)


def _tome(pipe: Any, parameters: Parameters) -> None:
    import tomesd
    import torch

    tomesd.apply_patch(pipe, **parameters["tome"])
    torch.manual_seed(0)  # "you might need to set the seed every batch"


def _fewer_steps(pipe: Any, parameters: Parameters) -> Call:
    fewer = {"num_inference_steps": parameters["fewer_steps"]["steps"]}
    return lambda *args, **kwargs: pipe(*args, **(kwargs | fewer))


EACH: dict[str, Callable[[Any, Parameters], Call | None]] = {
    "fewer_steps": _fewer_steps,
    "deepcache": _deepcache,
    "tgate": _tgate,
    "tome": _tome,
}
"""How each accelerator is put on, in the order of application; gives what to call, if not that."""
