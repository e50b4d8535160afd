r"""Has the network give what it gave at the step before.

Becomes: ^static: known: line \d+ sets \.forward of pipe\.unet
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
    forward, kept = pipe.unet.forward, []

    def remember(sample, time, *args, **more):
        if time % 250 > 125 and kept:
            return kept[-1]
        kept.append(forward(sample, time, *args, **more))
        return kept[-1]

    pipe.unet.forward = remember
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
