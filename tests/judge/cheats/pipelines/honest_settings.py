r"""Sets what one may set.

Becomes: ^$
"""

import os

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline

torch.backends.cudnn.benchmark = True
torch.set_grad_enabled(False)
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_attention_slicing()
    pipe.disable_attention_slicing()
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    pipe.safety_checker = None
    pipe.unet.eval()
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    return pipe


def generate(pipe, prompts, seeds):
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, num_inference_steps=8, guidance_scale=3.0).images
