"""What accelerators can do at sizes that do not halve evenly, or are narrow: what fails is left out
before it is tried, with a reason, and nothing else is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import tomesd
import torch

from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.space import nest
from diffaccel.store.jsonio import parse, to_json

Size = tuple[int, int]

SD = PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8))
SIZES: dict[str, list[Size]] = {
    "SD1.5": [(64, 256), (136, 72), (72, 72), (8, 128), (24, 40), (128, 128)],
    "SDXL": [(136, 72), (8, 128), (24, 40)],
}
"""Heights and widths in pixels, by layout."""
CASES = [(family, size) for family, sizes in SIZES.items() for size in sizes]
ODD = [case for case in CASES if case[1] in ((136, 72), (8, 128))]


@functools.cache
def eightfold(family: str) -> Any:
    """A tiny pipeline whose images are eight times as large as its latents, as the real ones' are:
    so latents can be of any size."""
    made = tiny.FAMILIES[family](0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    pipe = type(made)(**{**made.components, "vae": vae})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def works(call: Callable[..., Any], size: Size, steps: int = 1) -> bool:
    """Whether a call ends well at a size of the images."""
    height, width = size
    noise = torch.Generator().manual_seed(0)
    shape = {"height": height, "width": width, "output_type": "latent"}
    try:
        call("a red square", **shape, num_inference_steps=steps, generator=noise)
    except (RuntimeError, IndexError):
        return False
    return True


def spec_of(pipe: Any, size: Size, steps: int = 1) -> PipelineSpec:
    return PipelineSpec.of(pipe, steps=steps, guidance_scale=7.5, size=size)


@pytest.mark.parametrize(("family", "size"), CASES)
def test_what_tome_cannot_do_at_a_size_is_left_out_and_nothing_else(
    family: str, size: Size
) -> None:
    pipe, chosen = eightfold(family), combination(["tome"])
    pipeline = spec_of(pipe, size)
    forbids, found, left = chosen.space(pipeline).forbids, {}, {}
    strides = ((2, 2), (2, 4), (4, 2))
    levels = pipeline.transformer_downsamples
    for ratio, level, (sx, sy) in itertools.product((0.1, 0.6), levels, strides):
        own = {"ratio": ratio, "max_downsample": level, "sx": sx, "sy": sy}
        tomesd.apply_patch(pipe, **own)
        found[str(own)] = works(pipe, size)
        left[str(own)] = forbids({f"tome.{name}": value for name, value in own.items()}) is None
    tomesd.remove_patch(pipe)
    assert left == found
    assert chosen.supports(pipeline)[0] == any(found.values())


@pytest.mark.parametrize(("family", "size"), ODD)
@pytest.mark.parametrize("name", ["deepcache", "tgate"])
def test_deepcache_and_tgate_work_at_any_size(name: str, family: str, size: Size) -> None:
    pipe, chosen = eightfold(family), combination([name])
    for point in chosen.space(spec_of(pipe, size, steps=3)).coarse().points():
        with chosen.applied(pipe, nest(point)) as call:
            assert works(call, size, steps=3), point


def test_tome_says_why_something_is_left_out() -> None:
    def reason(latents: Size, **own: Any) -> str:
        point = {"ratio": 0.5, "max_downsample": 1, "sx": 2, "sy": 2, **own}
        space = combination(["tome"]).space(replace(SD, generated=latents))
        return space.forbids({f"tome.{name}": value for name, value in point.items()}) or ""

    assert reason((17, 9)) == ""
    assert "the 3 by 2 tokens at downsampling 8 of 17 by 9 latents for 4 by 2" in reason(
        (17, 9), max_downsample=8
    )
    assert "sx 2, sy 4 do not fit into 2 by 2 tokens" in reason((16, 16), max_downsample=8, sy=4)
    ok, why = combination(["tome"]).supports(replace(SD, generated=(1, 16)))
    assert not ok and "do not fit into 1 by 16 tokens" in why


def test_a_pipeline_spec_knows_the_latents_of_an_image() -> None:
    pipe = eightfold("SD1.5")
    pipeline = spec_of(pipe, (136, 72))
    assert pipeline.generated == (17, 9)
    assert [pipeline.tokens(level) for level in (1, 2, 4, 8)] == [(17, 9), (9, 5), (5, 3), (3, 2)]
    assert spec_of(tiny.sd15(), (136, 72)).generated == (68, 36)
    assert parse(PipelineSpec, to_json(pipeline), "here") == pipeline


def test_a_spec_of_before_is_of_the_size_that_the_network_is_made_for() -> None:
    before = {name: value for name, value in to_json(SD).items() if name != "generated"}
    assert parse(PipelineSpec, before, "here") == SD
    assert SD.generated is None and SD.tokens(8) == (8, 8)
