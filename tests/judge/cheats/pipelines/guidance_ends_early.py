r"""Turns guidance off while it generates.

Becomes: ^static: known: line \d+ sets \._guidance_scale
"""

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline


def off(pipe, step, time, values):
    pipe._guidance_scale = 0.0
    return {"prompt_embeds": values["prompt_embeds"].chunk(2)[-1]} if step == 0 else values


def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(
        prompts, generator=generators, num_inference_steps=8, callback_on_step_end=off
    ).images
