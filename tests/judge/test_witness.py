"""What the witness sees beside a script: one process generates honestly and in all ways that a
script may cheat which its syntax did not betray. The pipeline is an embedded one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration, sandbox_mounts
from diffaccel.benchmark.judge.protocol import Failed
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.evaluation import bench as benches
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.machine.devices import Device
from diffaccel.plugins.models import known_models
from diffaccel.plugins.models._spec import Lora

STEPS = 4
SPEC = replace(known_models()["mini-SD1.5"], batch_size=2)
JUDGED_BY = JudgeConfiguration(
    Configuration(SPEC.name, "DDIM", STEPS), SPEC, MeasureOptions(), JudgeOptions(), 0.02, "cpu"
)
SCRIPT = """
import copy
import functools

import torch
import tomesd
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from tgate import TgateSDDeepCacheLoader, TgateSDLoader


def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def generate(pipe, prompts, seeds):
    kind, *prompts = prompts[0].split(", ")
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    call = dict(prompt=prompts, generator=generators, num_inference_steps=4, guidance_scale=3.0)
    old, kept, plain = pipe.scheduler, pipe.unet, StableDiffusionPipeline.__call__
    pipe.scheduler = copy.copy(old)
    try:
        return globals()[kind](pipe, call)
    finally:
        pipe.scheduler, pipe.unet, StableDiffusionPipeline.__call__ = old, kept, plain
        pipe.to(torch.float32)
        unpatch(pipe)


def honest(pipe, call):
    return pipe(**call).images


def honest_one_by_one(pipe, call):
    pairs = zip(call["prompt"], call["generator"])
    return [pipe(**{**call, "prompt": p, "generator": g}).images[0] for p, g in pairs]


def honest_arrays(pipe, call):
    return as_images(pipe(**call, output_type="np").images)


def honest_tensors(pipe, call):
    images = pipe(**call, output_type="pt", return_dict=False)[0]
    return as_images(images.permute(0, 2, 3, 1).numpy())


def as_images(images):
    return [Image.fromarray((each * 255).round().astype("uint8")) for each in images]


def honest_deepcache(pipe, call):
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    images = pipe(**call).images
    helper.disable()
    return images


def honest_gate(pipe, call):
    TgateSDLoader(pipe)
    images = pipe.tgate(**call, gate_step=2, sp_interval=1, fi_interval=1, warm_up=0).images
    del pipe.tgate
    assert not hasattr(pipe, "tgate")
    return images


def unpatch(pipe):
    for module in pipe.unet.modules():
        vars(module).pop("cache", None)
        if type(module).__name__ == "Attention":
            vars(module).pop("forward", None)


def honest_merging(pipe, call):
    tomesd.apply_patch(pipe, ratio=0.5)
    images = pipe(**call).images
    tomesd.remove_patch(pipe)
    return images


def honest_compiled_by_name(pipe, call):
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    return pipe(**call).images


def half_the_steps(pipe, call):
    return pipe(**{**call, "num_inference_steps": 2}).images


def half_by_the_class(pipe, call):
    return StableDiffusionPipeline.__call__(pipe, **{**call, "num_inference_steps": 2}).images


def half_by_the_gate(pipe, call):
    TgateSDLoader(pipe)
    try:
        return pipe.tgate(**{**call, "num_inference_steps": 2}, gate_step=9).images
    finally:
        del pipe.tgate


def a_gate_of_its_own(pipe, call):
    pipe.tgate = lambda **more: pipe(**{**more, "num_inference_steps": 2})
    try:
        return pipe.tgate(**call).images
    finally:
        del pipe.tgate


def fewer_times(pipe, call):
    times = pipe.scheduler.set_timesteps
    pipe.scheduler.set_timesteps = lambda steps, **more: times(2, **more)
    return pipe(**call).images


def interrupted(pipe, call):
    def stop(pipe, step, time, values):
        pipe._interrupt = step >= 1
        return values

    return pipe(**call, callback_on_step_end=stop).images


def no_guidance(pipe, call):
    return pipe(**{**call, "guidance_scale": 1.0}).images


def guidance_at_first(pipe, call):
    def off(pipe, step, time, values):
        pipe._guidance_scale = 0.0
        return {"prompt_embeds": values["prompt_embeds"].chunk(2)[-1]} if step == 0 else values

    told = ["prompt_embeds"]
    return pipe(
        **call, callback_on_step_end=off, callback_on_step_end_tensor_inputs=told
    ).images


def small_images(pipe, call):
    images = pipe(**call, height=64, width=64).images
    return [each.resize((128, 128)) for each in images]


def half_numbers(pipe, call):
    return pipe.to(torch.bfloat16)(**call).images


def half_numbers_inside(pipe, call):
    with torch.autocast("cpu", torch.bfloat16):
        return pipe(**call).images


def another_sampler(pipe, call):
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe(**call).images


def behind_the_watch(pipe, call):
    return StableDiffusionPipeline.__call__.__wrapped__(pipe, **call).images


kept = []


def images_again(pipe, call):
    kept.append(pipe(**call).images if not kept else kept[0])
    return kept[0]


def one_for_all(pipe, call):
    images = pipe(**{**call, "prompt": call["prompt"][:1], "generator": call["generator"][:1]})
    return images.images * 2


def painted_over(pipe, call):
    images = pipe(**call).images
    images[0].putpixel((0, 0), (1, 2, 3))
    return images


def from_nowhere(pipe, call):
    return [Image.new("RGB", (128, 128), "red")] * 2
"""
HONEST = re.findall(r"^def (honest\w*)", SCRIPT, flags=re.M)
CHEATS = {
    "half_the_steps": "took 2 steps of DDIMScheduler; asked for are 4",
    "half_by_the_class": "took 2 steps",
    "half_by_the_gate": "took 2 steps",
    "a_gate_of_its_own": "took 2 steps",
    "fewer_times": "took 2 steps",
    "interrupted": "took 2 steps",
    "no_guidance": "4 of 4 steps are without guidance",
    "guidance_at_first": "3 of 4 steps are without guidance",
    "small_images": "2 of 2 images are none that a call of the pipeline gave",
    "half_numbers": "numbers of 16 bits; the baseline pipeline's have 32",
    "half_numbers_inside": "numbers of 16 bits",
    "another_sampler": "took 0 steps of DDIMScheduler",
    "behind_the_watch": "2 of 2 images are none",
    "images_again": "2 of 2 images are none",
    "one_for_all": "1 of 2 images are none",
    "painted_over": "1 of 2 images are none",
    "from_nowhere": "2 of 2 images are none",
}


@pytest.fixture(scope="module")
def generating(sandboxed: str) -> Iterator[Sandbox]:
    seen, wanted = sandbox_mounts(SPEC, gpu=False), JUDGED_BY.watched("cpu")
    with Sandbox(SCRIPT.encode(), seen, JUDGED_BY.limits, wanted=wanted) as opened:
        opened.load()
        yield opened


@pytest.mark.long
def test_the_baseline_pipeline_has_its_lora_in_the_sandbox(sandboxed: str) -> None:
    """Its own script loads it there, and generates what is measured."""
    lora = Lora("resources/models/mini-SD1.5-lora", 0.8, "pytorch_lora_weights.safetensors")
    spec = replace(SPEC, lora=(lora,), negative_prompt="a ring")
    judged_by = replace(JUDGED_BY, spec=spec)
    seen, wanted = sandbox_mounts(spec, gpu=False), judged_by.watched("cpu")
    source, prompts = judged_by.baseline_script().encode(), ["a red square", "a blue cross"]
    with Sandbox(source, seen, judged_by.limits, wanted=wanted) as opened:
        opened.load()
        data, _ = opened.generate(prompts, [1, 2], (spec.height, spec.width))
    options = MeasureOptions(prompts=2, seed=1)
    bench = benches.open_bench(judged_by.configuration, spec, options, Device("cpu"))
    bench = replace(bench, prompts=prompts)
    expected = bench.call(bench.baseline, slice(0, 2)).images
    assert bytes(data) == expected.tobytes()


def generate(generating: Sandbox, kind: str) -> None:
    words = [f"{kind}, a red square, a blue ring"] * 2
    generating.generate(words, [1, 2], (SPEC.height, SPEC.width))


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.long] * ("compiled" in kind)) for kind in HONEST],
)
def test_what_is_honest_passes(kind: str, generating: Sandbox) -> None:
    generate(generating, kind)


@pytest.mark.parametrize("kind", CHEATS)
def test_what_is_not_asked_is_seen(kind: str, generating: Sandbox) -> None:
    if kind == "images_again":
        generate(generating, kind)
    with pytest.raises(Failed, match=CHEATS[kind]):
        generate(generating, kind)
