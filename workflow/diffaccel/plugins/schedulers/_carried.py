"""What a scheduler takes over from the one that a model comes with, and what it does not.

diffusers changes a pipeline's scheduler by ``Other.from_config(pipe.scheduler.config, ...)``. That
takes over every argument that both classes have and drops the others without a word. Here it is
checked that nothing that the model was trained with is dropped; and an argument that belongs to the
other sampler alone, such as ``use_karras_sigmas``, is set back, so that a name means the same
sampler on every model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffaccel.plugins.schedulers._names import SCHEDULERS, plugin_of
from diffaccel.plugins.schedulers._signature import UNKNOWN, signature
from diffaccel.plugins.schedulers.base import Option, SchedulerSpec

TRAINED: Mapping[str, Option] = {
    "rescale_betas_zero_snr": False,
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
}
"""What a model may be trained with and some classes do not know, and what it is without."""
KEPT = frozenset(
    (
        *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
        *("prediction_type", "timestep_spacing", "steps_offset", "set_alpha_to_one"),
        *("clip_sample", "clip_sample_range", "thresholding", "dynamic_thresholding_ratio"),
        *("sample_max_value", "original_inference_steps", "timestep_scaling", "variance_type"),
        *TRAINED,
    )
)
"""Arguments that are the model's own rather than a sampler's."""
ALIKE = frozenset(
    (
        *("DDIMInverseScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler"),
        *("DPMSolverMultistepInverseScheduler", "IPNDMScheduler"),
    )
)
"""Classes that a model may come with and that are no samplers here: their noise schedule is that of
the others."""


def options_for(wanted: SchedulerSpec, own: Mapping[str, Any] | None) -> dict[str, Option]:
    """The arguments of ``from_config`` beside a model's own configuration.

    Args:
        own: content of the model's ``scheduler_config.json``; None where it is not known.
    """
    takes = signature(wanted.diffusers)
    given = {name: value for name, value in (own or {}).items() if name not in _unsaid(own)}
    options: dict[str, Option] = {
        name: value
        for name, value in plugin_of(wanted).always.items()
        if own is not None and given.get(name) != value
    }
    for name, default in takes.items():
        foreign = name in given and name not in KEPT and default is not UNKNOWN
        if foreign and given[name] != default and name not in plugin_of(wanted).always:
            options[name] = default
    return options | wanted.options


def _unsaid(own: Mapping[str, Any] | None) -> Sequence[str]:
    """Arguments that a loaded scheduler has from its class, and not from its file."""
    return (own or {}).get("_use_default_values") or ()


def refusal(wanted: SchedulerSpec, own: Mapping[str, Any]) -> str | None:
    """Why a scheduler cannot take the place of a model's own, or None.

    Args:
        own: content of the model's ``scheduler_config.json``.
    """
    takes = signature(wanted.diffusers)
    if (reason := other_noise(own)) is not None:
        return reason
    for name, without in TRAINED.items():
        value = wanted.options.get(name, own.get(name, without))
        if value not in (without, None) and name not in takes:
            known = [each.name for each in SCHEDULERS.values() if name in signature(each.diffusers)]
            return (
                f"the model needs {name}={value!r}, and {wanted.diffusers} has no such option, so "
                f"its images would be wrong. Use one of: {', '.join(known)}"
            )
    zero = wanted.options.get("rescale_betas_zero_snr", own.get("rescale_betas_zero_snr"))
    predicts = wanted.options.get("prediction_type", own.get("prediction_type", "epsilon"))
    if zero and predicts == "epsilon":
        return (
            "rescale_betas_zero_snr needs prediction_type: v_prediction. A model that predicts "
            "epsilon cannot be sampled from a signal of zero"
        )
    return None


def other_noise(own: Mapping[str, Any]) -> str | None:
    """Why a model is trained on another noise schedule than Stable Diffusion's, or None."""
    kind = str(own.get("_class_name"))
    flows = own.get("use_flow_sigmas") or own.get("prediction_type") == "flow_prediction"
    if flows or "Flow" in kind:
        what = "flow matching"
    elif "EDM" in kind:
        what = "the noise schedule of EDM (Karras et al., 2022)"
    elif kind in ALIKE or any(kind == each.diffusers for each in SCHEDULERS.values()):
        return None
    else:
        what = "a scheduler that is not known here"
    known = sorted({each.diffusers for each in SCHEDULERS.values()})
    return (
        f"the model's scheduler is {kind} ({what}), which is not supported. The model must come "
        f"with one of: {', '.join(known)}"
    )
