r"""Makes the sampler one of its own class behind its back.

Becomes: ^static: known: line \d+ sets \.__class__
"""

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline


class Sampler(DDIMScheduler):
    def set_timesteps(self, steps, **more):
        super().set_timesteps(steps // 2, **more)


def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    pipe.scheduler.__class__ = Sampler
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
