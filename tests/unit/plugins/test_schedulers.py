"""Schedulers: what they say of diffusers' classes, how they are named, and what they carry over."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import KarrasDiffusionSchedulers

from diffaccel.plugins.accelerators import PipelineSpec
from diffaccel.plugins.models import FAMILIES, ModelError, ModelSpec
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import (
    NOISE_SCHEDULES,
    SCHEDULERS,
    SPACINGS,
    Scheduler,
    SchedulerError,
    SchedulerSpec,
    is_stochastic,
    made,
    options_for,
    plugin_of,
    refusal,
    scheduler_named,
    signature,
)
from diffaccel.registry import UnknownNameError

EVERY = pytest.mark.parametrize("plugin", SCHEDULERS.values(), ids=lambda plugin: plugin.name)
SD: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
"""What Stable Diffusion 1.5 comes with."""
BETAS = {name: value for name, value in SD.items() if name.startswith("beta")}


def spec_of(plugin: Scheduler) -> SchedulerSpec:
    return scheduler_named(plugin.name)


def new(plugin: Scheduler, own: dict[str, Any] | None = None) -> Any:
    spec = spec_of(plugin)
    return made(spec, own or SD, options_for(spec, own or SD), 20)


# ---- what a plugin says of its class ------------------------------------------------------------


def test_every_scheduler_of_the_pipelines_is_known() -> None:
    """That of EDM, which is trained otherwise, is refused by its reason instead."""
    known = {plugin.diffusers for plugin in SCHEDULERS.values()}
    listed = {each.name for each in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"}
    assert listed | {"LCMScheduler", "TCDScheduler", "SASolverScheduler"} == known


@EVERY
def test_the_signature_is_the_classs_own(plugin: Scheduler) -> None:
    kind = getattr(diffusers, plugin.diffusers)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    told = signature(plugin.diffusers)
    assert {each.name for each in parameters} == set(told)
    for each in parameters:
        if isinstance(each.default, bool | int | str | None):
            assert told[each.name] == each.default, each.name
    options = {*plugin.options, *plugin.always}
    assert options <= set(told)
    flags = {name for each in NOISE_SCHEDULES.values() for name in each if "sigmas" in name}
    assert plugin.noise_schedules == (flags <= set(told))
    assert plugin.spacings == ("timestep_spacing" in told)


def test_the_signature_of_nothing_is_empty() -> None:
    assert not signature("NoScheduler")


@pytest.fixture(scope="module")
def pipe() -> Any:
    made_pipe = tiny.sd15()
    made_pipe.set_progress_bar_config(disable=True)
    return made_pipe


@pytest.fixture(scope="module")
def own() -> Any:
    """Configuration of the scheduler that a pipeline comes with, as it is loaded."""
    return tiny.sd15().scheduler.config


@EVERY
@pytest.mark.parametrize("steps", [2, 20])
def test_the_unet_is_called_so_often(plugin: Scheduler, steps: int, pipe: Any) -> None:
    scheduler = new(plugin)
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == plugin.calls(steps)
    assert scheduler.order == plugin.order
    pipe.scheduler = scheduler
    pipeline = PipelineSpec.of(pipe, steps=steps, guidance_scale=7.5)
    assert (pipeline.calls, pipeline.order) == (plugin.calls(steps), plugin.order)
    assert pipeline.calls_in(3) == plugin.calls(3)


@EVERY
def test_noise_of_its_own_is_told(plugin: Scheduler, pipe: Any) -> None:
    """Two calls with the same first noise, and other noise from then on."""
    images = []
    for seed in (1, 2):
        pipe.scheduler = made(
            spec_of(plugin), SD, _seeded(options_for(spec_of(plugin), SD), seed), 4
        )
        made_images = pipe(
            "a dot",
            num_inference_steps=4,
            latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images
        images.append(made_images)
    assert np.array_equal(*images) is not plugin.stochastic
    assert is_stochastic(spec_of(plugin)) is plugin.stochastic


def _seeded(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """DPM++ SDE has its noise from a seed of its own."""
    return options | ({"noise_sampler_seed": seed} if "noise_sampler_seed" in options else {})


def test_an_option_may_make_a_sampler_stochastic() -> None:
    own = SchedulerSpec("own", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"})
    assert is_stochastic(own) and plugin_of(own).name == "DPM++ 2M SDE"
    assert not is_stochastic(dataclasses.replace(own, options={}))


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name", "key"),
    [
        ("DDIM", "DDIM", "DDIMScheduler"),
        ("Euler a", "Euler a", "EulerAncestralDiscreteScheduler"),
        ("euler_ancestral", "Euler a", "EulerAncestralDiscreteScheduler"),
        ("Euler-Karras", "Euler Karras", "EulerDiscreteScheduler(use_karras_sigmas=True)"),
        (
            "DPM++ 2M Karras",
            "DPM++ 2M Karras",
            "DPMSolverMultistepScheduler(use_karras_sigmas=True)",
        ),
        ("DPM++ 2M", "DPM-Solver++", "DPMSolverMultistepScheduler"),
        (
            "DPM++ 2M SDE Karras",
            "DPM++ 2M SDE Karras",
            "DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', use_karras_sigmas=True)",
        ),
        (
            "Euler SGM uniform",
            "Euler trailing",
            "EulerDiscreteScheduler(timestep_spacing='trailing')",
        ),
        (
            "UniPC beta",
            "UniPC beta",
            "UniPCMultistepScheduler(timestep_spacing='linspace', use_beta_sigmas=True)",
        ),
        (
            "Euler Karras trailing",
            "Euler Karras trailing",
            "EulerDiscreteScheduler(timestep_spacing='trailing', use_karras_sigmas=True)",
        ),
        ("UniPC", "UniPCMultistepScheduler", "UniPCMultistepScheduler"),
        ("LCMScheduler", "LCM", "LCMScheduler"),
    ],
)
def test_names_as_people_write_them(given: str, name: str, key: str) -> None:
    found = scheduler_named(given)
    assert (found.name, found.key) == (name, key)
    assert scheduler_named(name) == found, "a name stands for itself"
    assert scheduler_named(name.replace(" ", "-")) == found, "in paths, too"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("Eulr", "unknown scheduler 'Eulr': did you mean 'Euler'?"),
        (
            "DDIM Karras",
            r"DDIMScheduler has no noise schedule of that name, so Karras cannot stand",
        ),
        (
            "DPM++ 2S trailing",
            "has no timestep_spacing, so trailing cannot stand behind it; write 'DPM",
        ),
        ("Karras", "unknown scheduler 'Karras'"),
    ],
)
def test_names_that_stand_for_nothing(given: str, says: str) -> None:
    with pytest.raises(UnknownNameError, match=says):
        scheduler_named(given)


def _all_names() -> list[str]:
    found = []
    for plugin in SCHEDULERS.values():
        stem, name = plugin.stem or plugin.name, plugin.name
        found += [name, *(f"{stem} {word}" for word in NOISE_SCHEDULES if plugin.noise_schedules)]
        found += [f"{stem} {word}" for word in SPACINGS if plugin.spacings]
    return found


def _documented_names() -> list[Any]:
    """Setting the times of DPM2 takes seconds."""
    rare = pytest.mark.long
    return [
        pytest.param(name, marks=[rare] * (name.startswith("DPM2 ") and name != "DPM2 Karras"))
        for name in _all_names()
    ]


@pytest.mark.parametrize("name", _documented_names())
def test_every_name_is_diffusers_own_documented_way(name: str, own: Any) -> None:
    """``Class.from_config(pipe.scheduler.config, **options)``, on what a model comes with."""
    spec = scheduler_named(name)
    assert spec.name == name
    documented = getattr(diffusers, spec.diffusers).from_config(
        own, **{**plugin_of(spec).always, **spec.options}
    )
    ours = made(spec, SD, options_for(spec, SD), 20)
    for scheduler in (documented, ours):
        scheduler.set_timesteps(20)
    assert torch.equal(documented.timesteps, ours.timesteps)
    for what in ("sigmas", "alphas_cumprod"):
        if hasattr(documented, what):
            assert torch.equal(getattr(documented, what), getattr(ours, what)), what


# ---- what is carried over from the model's own --------------------------------------------------

STRIPPED: dict[str, Any] = {"_class_name": "EulerDiscreteScheduler", **BETAS}
"""What a folder says that was saved with Euler: nothing of what DDIM alone takes."""


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "LCM", "TCD", "Heun"])
def test_latents_are_never_clipped(name: str) -> None:
    scheduler = new(SCHEDULERS[name], STRIPPED)
    assert scheduler.config.clip_sample is False
    assert made(
        spec_of(SCHEDULERS[name]), SD, options_for(spec_of(SCHEDULERS[name]), SD), 5
    ).config.clip_sample is (False)


def test_nothing_is_set_that_holds_anyway() -> None:
    """Scripts say no more than a user would write."""
    for name in ("DDIM", "DPM-Solver++", "UniPCMultistepScheduler", "Euler"):
        assert options_for(scheduler_named(name), SD) == {}
        assert options_for(scheduler_named(name), None) == {}
    assert options_for(scheduler_named("DDIM"), STRIPPED) == {"clip_sample": False}


def test_another_samplers_own_options_do_not_come_along() -> None:
    """A folder that was saved with DPM++ 2M Karras makes no Euler Karras of Euler."""
    own = {**SD, "_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}
    own |= {"solver_order": 3, "algorithm_type": "dpmsolver++", "timestep_spacing": "trailing"}
    options = options_for(scheduler_named("Euler"), own)
    assert options == {"use_karras_sigmas": False}
    euler = made(scheduler_named("Euler"), own, options, 20)
    assert euler.config.use_karras_sigmas is False
    assert euler.config.timestep_spacing == "trailing", "which is what the model is meant for"
    plain = options_for(scheduler_named("DPM-Solver++"), own)
    assert plain == {"use_karras_sigmas": False, "solver_order": 2}


@pytest.mark.parametrize("name", ["DDIM", "Euler", "DPM-Solver++", "UniPCMultistepScheduler"])
def test_a_signal_of_zero_is_carried_over(name: str) -> None:
    own = {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    scheduler = new(SCHEDULERS[name], own)
    assert scheduler.config.rescale_betas_zero_snr is True
    assert scheduler.config.prediction_type == "v_prediction"


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "zero SNR": (
        "LMS",
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        "rescale_betas_zero_snr=True, and LMSDiscreteScheduler has no such option.*Use one of: "
        "DDIM, DDPM",
    ),
    "zero SNR of noise": (
        "DDIM",
        {"rescale_betas_zero_snr": True},
        "rescale_betas_zero_snr needs prediction_type: v_prediction",
    ),
    "EDM": (
        "DDIM",
        {"_class_name": "EDMEulerScheduler"},
        r"EDMEulerScheduler \(the noise schedule",
    ),
    "flow": (
        "Euler",
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        r"FlowMatchEulerDiscreteScheduler \(flow matching\), which is not supported",
    ),
    "flow sigmas": (
        "DDIM",
        {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True},
        r"UniPCMultistepScheduler \(flow matching",
    ),
    "continuous times": (
        "DDIM",
        {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
        "timestep_type='continuous', and DDIMScheduler has no such option",
    ),
    "unknown": ("DDIM", {"_class_name": "MyScheduler"}, r"MyScheduler \(a scheduler that is not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_wrong_is_refused(case: str) -> None:
    name, changes, says = REFUSED[case]
    wanted, own = scheduler_named(name), {**SD, **changes}
    with pytest.raises(SchedulerError, match=says):
        made(wanted, own, options_for(wanted, own), 20)
    assert refusal(wanted, SD) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timestep_spacing": "middle"}, "cannot be made with timestep_spacing='middle'"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "Only one of"),
    ],
)
def test_options_that_do_not_work_are_refused(options: dict[str, Any], says: str) -> None:
    own = SchedulerSpec("own", "DPMSolverMultistepScheduler", options)
    with pytest.raises(SchedulerError, match=says):
        made(own, SD, options_for(own, SD), 20)


# ---- in a model ---------------------------------------------------------------------------------


def folder(tmp_path: Path, changes: dict[str, Any]) -> Path:
    """A tiny pipeline that was saved with a scheduler of these settings alone."""
    saved = tiny.save("SD1.5", tmp_path / "model")
    path = saved / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(changes), encoding="utf-8")
    index = json.loads((saved / "model_index.json").read_text(encoding="utf-8"))
    index["scheduler"] = ["diffusers", changes["_class_name"]]
    (saved / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return saved


def spec(source: Path, **more: Any) -> ModelSpec:
    known = FAMILIES["SD1.5"].known[1]
    changes = {"name": "own", "source": str(source), "vae": None, "variant": None}
    return dataclasses.replace(known, **changes, **more)


def test_the_check_of_a_model_refuses_other_noise(tmp_path: Path) -> None:
    source = folder(tmp_path, {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5})
    with pytest.raises(ModelError, match=r"EDMEulerScheduler \(the noise schedule of EDM"):
        FAMILIES["SD1.5"].check(spec(source))


def test_what_is_fetched_knows_its_scheduler(tmp_path: Path) -> None:
    fetched = FAMILIES["SD1.5"].fetch(spec(folder(tmp_path, STRIPPED))).spec
    assert fetched.scheduler_config == STRIPPED
    assert fetched.scheduler_options(scheduler_named("DDIM")) == {"clip_sample": False}
    FAMILIES["SD1.5"].check_scheduler(fetched, scheduler_named("DDIM"), 20)
    with pytest.raises(SchedulerError, match="cannot be made with"):
        FAMILIES["SD1.5"].check_scheduler(fetched, scheduler_named("DDIM"), 5000)


def test_a_users_word_on_the_prediction_counts(tmp_path: Path) -> None:
    told = spec(
        folder(tmp_path, STRIPPED), prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    fetched = FAMILIES["SD1.5"].fetch(told).spec
    wanted = scheduler_named("Euler")
    options = fetched.scheduler_options(wanted)
    assert options == {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler = made(wanted, fetched.scheduler_config or {}, options, 20)
    assert scheduler.config.prediction_type == "v_prediction"
    with pytest.raises(SchedulerError, match="has no such option"):
        FAMILIES["SD1.5"].check_scheduler(fetched, scheduler_named("Heun"), 20)


# ---- times that come again ----------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "again"), [(50, 1), (100, 5)])
def test_karras_sigmas_repeat_times(steps: int, again: int, pipe: Any) -> None:
    """DeepCache finds a step by its time, so that it takes the first of these for both."""
    wanted = scheduler_named("DPM++ 2M Karras")
    pipe.scheduler = made(wanted, SD, options_for(wanted, SD), steps)
    before = copy.deepcopy(pipe.scheduler.config)
    pipeline = PipelineSpec.of(pipe, steps=steps, guidance_scale=7.5)
    assert pipe.scheduler.config == before
    first = pipeline.first_at_time
    assert len(first) == steps
    assert sum(place != call for call, place in enumerate(first)) == again


def test_where_no_time_comes_again_nothing_is_noted() -> None:
    """So that records of before are equal to those of now."""
    pipeline = PipelineSpec.of(tiny.sd15(), steps=20, guidance_scale=7.5)
    assert pipeline.same_time == () and pipeline.first_at_time == tuple(range(20))
