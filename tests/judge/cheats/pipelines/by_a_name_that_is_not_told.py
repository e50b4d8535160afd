r"""The same by a name that nobody can tell.

Becomes: ^static: known: line \d+ sets an attribute whose name cannot be told
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
    name = "".join(reversed(["timesteps", "set_"]))
    setattr(pipe.scheduler, name, lambda steps, **more: None)
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
