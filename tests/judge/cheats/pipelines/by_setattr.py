r"""Sets what it may not set by a name that is put together.

Becomes: ^static: known: line \d+ sets \.set_timesteps
"""

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline


def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    times = pipe.scheduler.set_timesteps
    setattr(pipe.scheduler, "set_" + "timesteps", lambda steps, **more: times(4, **more))
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
