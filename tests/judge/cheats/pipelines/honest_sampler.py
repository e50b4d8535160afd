r"""Has a sampler with settings of its own.

Becomes: ^$
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
    config = dict(pipe.scheduler.config)
    config["timestep_spacing"] = "trailing"
    pipe.scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
