r"""Is written as a class with settings and a count of its calls.

Becomes: ^$
"""

import argparse
import gc
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    model: str = "resources/models/mini-SD1.5"
    steps: int = 8
    seeds: list[int] = field(default_factory=list)


class Painter:
    def __init__(self, device: str) -> None:
        self.calls = 0
        self.times: dict[str, float] = {}
        self.pipe = StableDiffusionPipeline.from_pretrained(
            Settings.model, torch_dtype=torch.float32
        )
        self.pipe.scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config)
        self.pipe = self.pipe.to(device)
        self.helper = DeepCacheSDHelper(pipe=self.pipe)
        self.helper.set_params(cache_interval=2, cache_branch_id=0)

    def __enter__(self):
        self.helper.enable()
        return self

    def __exit__(self, *error):
        self.helper.disable()

    def __repr__(self):
        return f"Painter({self.calls})"

    def paint(self, prompt: str, seed: int) -> Any:
        self.calls += 1
        start = time.perf_counter()
        generator = torch.Generator(device="cpu").manual_seed(seed)
        with torch.inference_mode():
            result = self.pipe(
                prompt=prompt,
                num_inference_steps=Settings.steps,
                guidance_scale=7.5,
                generator=generator,
                negative_prompt="blurry",
            )
        self.times[prompt] = time.perf_counter() - start
        return result.images[0]


def load_pipeline():
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    painter = Painter(device)
    log.info("loaded %r", painter)
    return painter


def generate(painter, prompts, seeds):
    images = [None] * len(prompts)
    with painter:
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            images[number] = painter.paint(prompt, seed)
            if painter.calls % 10 == 0:
                gc.collect()
    print("drew", len(images), file=sys.stderr)
    return images


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt")
    args = parser.parse_args()
    args.seed = 0
    generate(load_pipeline(), [args.prompt], [args.seed])


if __name__ == "__main__":
    main()
