"""Text-to-image with resources/models/mini-SD1.5: DDIMScheduler, 20 steps, accelerated by
torch.compile, CUDA graphs, and DeepCache.

Task: An example
Pipeline: StableDiffusionPipeline, 128x128 pixels, guidance scale 7.5
Parameters: compile.channels_last=True, deepcache.cache_interval=3, deepcache.cache_branch_id=0,
  graphs.decoder=True
Measured: 2.31x the speed without accelerators; CLIP score loss 0.0042 (95% interval -0.0021 to
  0.0104) over 64 prompts
Hardware: a made-up example, not a measurement
Versions: torch 2.13.0, diffusers 0.42.1, transformers 5.23.0
Date: 2026-11-20
Run: python THIS_FILE --prompt "..." --seed 0 --out image.png
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from PIL import Image

MODEL = "resources/models/mini-SD1.5"
STEPS = 20
GUIDANCE_SCALE = 7.5
HEIGHT = 128
WIDTH = 128


def load_pipeline(model: str = MODEL, device: str = "auto") -> StableDiffusionPipeline:
    """Loads the model and its sampler; the device "auto" is CUDA where there is any, or the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    pipe = StableDiffusionPipeline.from_pretrained(
        model, dtype=dtype, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe.to(device)


class StepGraphs:
    """A module's calls as CUDA graphs: recorded when first made, then replayed.

    A graph is launched at once, where a U-Net launches a thousand kernels one by one. What a call
    does may depend on its number and on what earlier ones have stored, but not on the numbers that
    it computes with.

    Usage: `record` a module, then do whatever changes it, then `replay` it; `begin` before its
    first call.
    """

    def __init__(self) -> None:
        self.graphs: dict[Any, tuple[torch.cuda.CUDAGraph, list[torch.Tensor], Any]] = {}
        self.kept: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """The next call is the first."""
        self.number = 0
        self.pool: Any = None

    def replay(self, module: torch.nn.Module) -> None:
        """Replays what is recorded, whatever becomes of the module's ``forward`` meanwhile."""

        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = self.tensors(args, kwargs)
            key = self.key(inputs)
            if key in self.graphs:
                graph, static, out = self.graphs[key]
                for mine, given in zip(static, inputs, strict=True):
                    mine.copy_(given, non_blocking=True)
                graph.replay()
                out = self.replaced(out, iter([each.clone() for each in self.tensors(out)]))
            else:
                out = module._call_impl(*args, **kwargs)
            self.number += 1
            return out

        # Where torch looks first when a module is called: for a compiled module, as a rule.
        module._compiled_call_impl = call

    def record(self, module: torch.nn.Module) -> None:
        """Records the module's ``forward`` whenever it runs."""
        forward = module.forward

        def call(*args: Any, **kwargs: Any) -> Any:
            forward(*args, **kwargs)  # compiles and chooses kernels, which cannot be recorded
            inputs = self.tensors(args, kwargs)
            static = [each.detach().clone().cuda() for each in inputs]
            args, kwargs = self.replaced((args, kwargs), iter(static))
            if self.pool is None:
                # What later calls read of earlier ones is alive while they are recorded, not after.
                self.pool = torch.cuda.graph_pool_handle()
                self.kept.append([weight.data for weight in module.parameters()])
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self.pool):
                out = forward(*args, **kwargs)
            graph.replay()
            self.graphs[self.key(inputs)] = graph, static, out
            return self.replaced(out, iter([each.clone() for each in self.tensors(out)]))

        module.forward = call

    def key(self, inputs: list[torch.Tensor]) -> Any:
        return self.number, tuple((each.shape, each.dtype) for each in inputs)

    def tensors(self, *values: Any) -> list[torch.Tensor]:
        """All tensors in nested values, in order."""
        found: list[torch.Tensor] = []
        for value in values:
            if isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, (tuple, list)):
                found += self.tensors(*value)
            elif isinstance(value, dict):
                found += self.tensors(*value.values())
        return found

    def replaced(self, value: Any, queue: Iterator[torch.Tensor]) -> Any:
        """Nested values with their tensors replaced by the next ones of a queue."""
        if isinstance(value, torch.Tensor):
            return next(queue)
        if isinstance(value, (tuple, list)):
            return type(value)(self.replaced(each, queue) for each in value)
        if isinstance(value, dict):
            return {name: self.replaced(each, queue) for name, each in value.items()}
        return value


@contextmanager
def accelerated(pipe: StableDiffusionPipeline) -> Iterator[None]:
    """Accelerates the pipeline within a `with` block and leaves it as it was."""
    torch._dynamo.config.recompile_limit = 512  # a block has many shapes
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.unet.fuse_qkv_projections()
    compiled = (ResnetBlock2D, Downsample2D, Upsample2D, Transformer2DModel)
    for module in [*pipe.unet.modules(), pipe.vae.decoder]:
        if isinstance(module, compiled) or module is pipe.vae.decoder:
            module.forward = torch.compile(module.forward, dynamic=False)
    if not hasattr(pipe, "graphs"):  # recorded once, replayed from then on
        pipe.graphs = [(module, StepGraphs()) for module in [pipe.unet, pipe.vae.decoder]]
    for module, graphs in pipe.graphs:
        graphs.begin()
        graphs.record(module)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=3, cache_branch_id=0)
    helper.enable()
    for module, graphs in pipe.graphs:
        graphs.replay(module)
    try:
        yield
    finally:
        helper.disable()
        for module, _ in pipe.graphs:
            vars(module).pop("forward", None)
            vars(module).pop("_compiled_call_impl", None)
        for module in [*pipe.unet.modules(), pipe.vae.decoder]:
            if isinstance(module, compiled) or module is pipe.vae.decoder:
                vars(module).pop("forward", None)
        pipe.unet.unfuse_qkv_projections()
        pipe.unet.to(memory_format=torch.contiguous_format)
        pipe.vae.to(memory_format=torch.contiguous_format)


def generate(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
) -> list[Image.Image]:
    """Generates an image for each prompt, each from the noise of its own seed."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    with accelerated(pipe):
        result = pipe(
            prompts,
            generator=generators,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            height=HEIGHT,
            width=WIDTH,
        )
    images: list[Image.Image] = result.images
    return images


def find(path: str) -> str:
    """Where this lies: in the current folder, or in one that this file lies in."""
    for folder in (Path(), *Path(__file__).resolve().parents):
        if (folder / path).exists():
            return str(folder / path)
    return path


def main() -> None:
    """Reads the command line, generates the images and writes them."""
    parser = argparse.ArgumentParser(description="Generates images from prompts.")
    parser.add_argument("--prompt", action="append", required=True, help="again for more images")
    parser.add_argument("--seed", type=int, default=0, help="of the first image; the next has +1")
    parser.add_argument("--out", type=Path, default=Path("image.png"), help="file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    model = os.environ.get("DIFFACCEL_MODEL", find(MODEL))
    parser.add_argument("--model", default=model, help="folder or hub id; or in DIFFACCEL_MODEL")
    args = parser.parse_args()
    if args.model == MODEL and not Path(MODEL).exists():
        parser.error(f"no {MODEL} here: say where it is with --model or DIFFACCEL_MODEL")

    pipe = load_pipeline(args.model, args.device)
    seeds = [args.seed + number for number in range(len(args.prompt))]
    for number, image in enumerate(generate(pipe, args.prompt, seeds)):
        path = args.out.with_stem(f"{args.out.stem}-{number}") if number else args.out
        image.save(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
