"""Calls as real pipelines get them: half precision, other batches, prompts, sizes and guidance."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from diffaccel.plugins.accelerators import PipelineSpec, UnsupportedError, combination
from diffaccel.plugins.models.mini import tiny
from tests.turns import in_turns

from .cells import SCHEDULERS, Subject, assert_same, tree
from .generating import PROMPTS, STEPS, Images, Parameters, generate
from .reference import by_hand
from .upstream import documented

CACHED = {"cache_interval": 2, "cache_branch_id": 1}
GATED = {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
MERGED = {"ratio": 0.5, "max_downsample": 2}
CANDIDATES: Mapping[str, Parameters] = {
    "tgate": {"tgate": {"gate_step": 4, "sp_interval": 2, "fi_interval": 3, "warm_up": 1}},
    "all": {"deepcache": CACHED, "tgate": GATED, "tome": MERGED},
    "unguided": {"deepcache": CACHED, "tome": MERGED},
}
LONG = [pytest.mark.long]


def sampler(family: str) -> str:
    """Each layout here has one of the samplers."""
    return SCHEDULERS[list(tiny.FAMILIES).index(family)]


def check(
    family: str, parameters: Parameters, generate: Callable[..., Images], dtype: torch.dtype
) -> None:
    """Applied is the packages' documented usage, is not plain, and leaves nothing."""
    import diffusers

    pipe, alone = (tiny.FAMILIES[family](0).to(dtype) for _ in range(2))
    pipe.scheduler = getattr(diffusers, sampler(family)).from_config(pipe.scheduler.config)
    plain, before = generate(pipe), tree(pipe)
    chosen = combination(list(parameters))
    with chosen.applied(pipe, parameters) as call:
        images = generate(call)
    assert np.isfinite(images).all()
    assert np.ptp(images) > 0.1
    assert not np.array_equal(images, plain)
    assert_same(chosen, images, documented(alone, sampler(family), parameters, generate))
    assert tree(pipe) == before
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {dtype}
    np.testing.assert_equal(generate(pipe), plain)


@pytest.mark.parametrize(
    ("family", "parameters", "dtype"),
    [
        ("SD1.5", "tgate", torch.float16),
        *(pytest.param(each, "tgate", torch.float16, marks=LONG) for each in ("SD2.1", "SDXL")),
        pytest.param("SDXL", "all", torch.float16, marks=LONG),
        *(pytest.param(each, "all", torch.bfloat16, marks=LONG) for each in tiny.FAMILIES),
    ],
)
@pytest.mark.filterwarnings("ignore:.upcast_vae. is deprecated")
def test_half_precision(family: str, parameters: str, dtype: torch.dtype) -> None:
    """SDXL's decoder, which overflows in float16, goes through float32 and back."""
    if family == "SDXL":
        assert tiny.sdxl().vae.config.force_upcast
    check(family, CANDIDATES[parameters], generate, dtype)


CALLS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "one": ("tgate", {"prompts": PROMPTS[:1]}),
    "five": ("all", {"prompts": tuple("abcde")}),
    "negative": ("all", {"negative_prompt": ["a blue dot", "a ring"]}),
    "rescaled": ("tgate", {"guidance_rescale": 0.7, "guidance_scale": 3.0}),
    "several": ("tgate", {"prompts": PROMPTS[:1], "num_images_per_prompt": 3}),
    "sizes": ("all", {"height": 40, "width": 56}),
}
"""Candidate, and arguments of the call."""


@pytest.mark.parametrize(("family", "call"), in_turns(tiny.FAMILIES, CALLS))
def test_other_calls(family: str, call: str) -> None:
    parameters, arguments = CALLS[call]

    def made(pipe: Callable[..., Any]) -> Images:
        return generate(pipe, **arguments)

    check(family, CANDIDATES[parameters], made, torch.float32)


@pytest.mark.parametrize(("family", "scale"), in_turns(tiny.FAMILIES, [1.0, 0.0]))
def test_without_guidance(family: str, scale: float) -> None:
    """DeepCache and ToMe work; T-Gate says why it cannot."""

    def made(pipe: Callable[..., Any]) -> Images:
        return generate(pipe, guidance_scale=scale)

    check(family, CANDIDATES["unguided"], made, torch.float32)
    pipe = tiny.FAMILIES[family](0)
    pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=scale)
    assert combination(["deepcache", "tome"]).supports(pipeline) == (True, "")
    chosen = combination(["tgate"])
    ok, reason = chosen.supports(pipeline)
    assert not ok and "guidance_scale above 1" in reason
    with (
        pytest.raises(UnsupportedError, match="guidance_scale"),
        chosen.applied(pipe, CANDIDATES["tgate"]) as call,
    ):
        made(call)


MERGES: Mapping[str, dict[str, Any]] = {
    "usual": {},
    "all levels": {"ratio": 0.5, "max_downsample": 8},
    "much": {"ratio": 0.7, "max_downsample": 2, "merge_mlp": True},
    "no attention": {"ratio": 0.3, "max_downsample": 2, "merge_attn": False, "merge_mlp": True},
}


@pytest.mark.parametrize(("family", "name"), in_turns(tiny.FAMILIES, MERGES))
@pytest.mark.parametrize(("gate", "count"), [(4, 2), (1, 3)])
def test_tgate_over_merged_tokens_is_right(family: str, name: str, gate: int, count: int) -> None:
    """Against a loop that keeps T-Gate and ToMe apart; after the gate, of an odd batch, too."""
    merged = MERGES[name]
    parameters = {"tgate": {**GATED, "gate_step": gate}, **({"tome": merged} if merged else {})}
    prompts = tuple("abc"[:count])
    pipe, alone = (tiny.FAMILIES[family](0) for _ in range(2))
    with combination(list(parameters)).applied(pipe, parameters) as call:
        images = generate(call, prompts)
    own = functools.partial(by_hand, parameters=parameters, prompts=prompts)
    others = {name: part for name, part in parameters.items() if name == "tome"}
    np.testing.assert_equal(images, documented(alone, "DDIMScheduler", others, own))


# ---- what the layouts differ in -------------------------------------------------------------


@pytest.mark.parametrize(("family", "scheduler"), in_turns(tiny.FAMILIES, SCHEDULERS))
def test_the_packages_loops_are_diffusers_own(
    subjects: Callable[[str, str], Subject], family: str, scheduler: str
) -> None:
    """T-Gate's copies of the pipelines' calls without a gate, and tomesd's copy of the transformer
    block with nothing to merge, generate the plain images, also past the solvers' 15 steps."""
    import tomesd

    pipe, steps = subjects(family, scheduler).pipe, 16
    own = {"gate_step": steps, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
    plain = generate(pipe, PROMPTS[:1], num_inference_steps=steps)
    with combination(["tgate"]).applied(pipe, {"tgate": own}) as call:
        np.testing.assert_equal(generate(call, PROMPTS[:1], num_inference_steps=steps), plain)
    patched = tomesd.apply_patch(copy.deepcopy(pipe), ratio=1e-6, max_downsample=8)
    np.testing.assert_equal(generate(patched), subjects(family, scheduler).plain)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [20, 25, 50])
def test_every_step_has_a_time_of_its_own(
    subjects: Callable[[str, str], Subject], family: str, scheduler: str, steps: int
) -> None:
    """DeepCache finds the number of a step by its time."""
    times = copy.deepcopy(subjects(family, scheduler).pipe.scheduler)
    times.set_timesteps(steps)
    assert len(times.timesteps) == len(set(times.timesteps.tolist())) == steps


def test_tomesd_by_default_merges_nothing_on_sdxl_upstream() -> None:
    import tomesd

    pipe = tiny.sdxl()
    plain = generate(pipe)
    tomesd.apply_patch(pipe, ratio=0.75)
    np.testing.assert_equal(generate(pipe), plain)


def test_sdxls_loop_with_deepcache_reuses_self_attention_upstream() -> None:
    """Although it sets out not to: it goes by another variable than the one that it changes."""

    def generate(**own: int) -> Images:
        parameters = {"deepcache": CACHED, "tgate": {**GATED, "gate_step": 4, **own}}
        return documented(tiny.sdxl(), "DDIMScheduler", parameters)

    plain = generate()
    assert not np.array_equal(generate(sp_interval=3), plain)
    assert not np.array_equal(generate(fi_interval=3), plain)


def test_after_the_gate_sdxl_has_the_negative_prompts_conditions() -> None:
    """Of text, pooled text and sizes alike, half are left."""
    pipe = tiny.sdxl()
    seen: list[tuple[torch.Tensor, ...]] = []

    def see(_: Any, inputs: tuple[Any, ...], given: dict[str, Any]) -> None:
        more = given["added_cond_kwargs"]
        seen.append((given["encoder_hidden_states"], more["text_embeds"], more["time_ids"]))

    pipe.unet.register_forward_pre_hook(see, with_kwargs=True)
    gate = GATED["gate_step"]
    with combination(["tgate"]).applied(pipe, {"tgate": GATED}) as call:
        generate(call, negative_prompt=["a dot", "a ring"])
    assert len(seen) == STEPS
    for before, after in zip(seen[0], seen[gate], strict=True):
        assert torch.equal(after, before.chunk(2)[0])
        assert len(before) == 2 * len(after) == 2 * len(PROMPTS)
    assert not torch.equal(seen[0][1].chunk(2)[0], seen[0][1].chunk(2)[1])


def test_guidance_by_default_is_the_pipelines_own() -> None:
    """T-Gate's calls have the same default scale as the pipelines that they stand for."""
    for family in tiny.FAMILIES:
        pipe = tiny.FAMILIES[family](0)
        own = {**GATED, "gate_step": STEPS}
        arguments = {"num_inference_steps": STEPS, "output_type": "np"}

        def generate(call: Callable[..., Any], arguments: dict[str, Any] = arguments) -> Images:
            images: Images = call("a", generator=torch.Generator().manual_seed(0), **arguments)
            return images[0]

        with combination(["tgate"]).applied(pipe, {"tgate": own}) as call:
            np.testing.assert_equal(generate(call), generate(pipe))
