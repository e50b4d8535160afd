"""What is particular to one accelerator: its bounds, what it skips, and what goes together."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffaccel.plugins.accelerators import PipelineSpec, UnsupportedError, combination
from diffaccel.plugins.accelerators.deepcache import branch_ids
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import SCHEDULERS
from diffaccel.registry import UnknownNameError

SD = PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8))
SDXL = PipelineSpec("StableDiffusionXLPipeline", 20, (3, 3, 2), (2, 4), latent_size=128)
STEPS = 8
PROMPTS = ("a red square", "two blue rings")
Parameters = dict[str, dict[str, Any]]


def gated(gate: int, sp: int = 1, fi: int = 1, warm_up: int = 0) -> dict[str, int]:
    return {"gate_step": gate, "sp_interval": sp, "fi_interval": fi, "warm_up": warm_up}


def generate(
    call: Callable[..., Any], prompts: tuple[str, ...] = PROMPTS, **more: Any
) -> NDArray[np.float32]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    images: NDArray[np.float32] = call(
        list(prompts),
        **{"num_inference_steps": STEPS, "generator": generators, "output_type": "np", **more},
    ).images
    return images


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.sd15()


@pytest.fixture(scope="module")
def plain(pipe: Any) -> NDArray[np.float32]:
    return generate(pipe)


# ---- pipeline specs -------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "like"), [("SD1.5", SD), ("SD2.1", SD), ("SDXL", SDXL)])
def test_facts_of_the_layouts(family: str, like: PipelineSpec) -> None:
    pipeline = PipelineSpec.of(tiny.FAMILIES[family](0), steps=20, guidance_scale=7.5)
    assert pipeline == replace(like, latent_size=tiny.LATENT_SIZE)


def test_facts_tell_guidance() -> None:
    def of(**config: Any) -> PipelineSpec:
        return PipelineSpec.of_config("Any", config, steps=20, guidance_scale=scale)

    scale = 7.5
    assert of().guided
    assert not of(time_cond_proj_dim=256).guided
    scale = 1.0
    assert not of().guided


def test_a_pipeline_without_a_unet_is_unsupported() -> None:
    pipeline = PipelineSpec.of_config("PixArtSigmaPipeline", {}, steps=20, guidance_scale=4.5)
    for name in ("deepcache", "tgate", "tome"):
        ok, reason = combination([name]).supports(pipeline)
        assert not ok and "PixArtSigmaPipeline" in reason


# ---- spaces ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "least", "most"),
    [
        (["deepcache"], 30, 60),
        (["tgate"], 40, 60),
        (["tome"], 25, 60),
        (["deepcache", "tgate"], 50, 500),
        (["deepcache", "tome"], 20, 500),
        (["deepcache", "tgate", "tome"], 20, 500),
    ],
)
@pytest.mark.parametrize("pipeline", [SD, SDXL])
def test_grids_that_can_be_measured_as_a_whole(
    names: list[str], least: int, most: int, pipeline: PipelineSpec
) -> None:
    if pipeline is SDXL and names == ["tome"]:
        least = 15  # two levels, not four
    space = combination(names).space(pipeline)
    grid = space.coarse() if len(names) > 1 else space.on_grid()
    assert least <= sum(1 for _ in grid.points()) <= most


@pytest.mark.parametrize("steps", [2, 3, 4, 20, 25, 50])
@pytest.mark.parametrize("name", ["deepcache", "tgate", "tome"])
def test_every_step_count_has_a_grid(name: str, steps: int) -> None:
    space = combination([name]).space(replace(SD, steps=steps))
    assert any(True for _ in space.points(grid=True))


def test_spaces_have_the_whole_of_the_bounds() -> None:
    axes = {a.name: a.values for a in combination(["deepcache", "tgate", "tome"]).space(SD).axes}
    assert axes["deepcache.cache_interval"] == tuple(range(2, 11))
    assert axes["deepcache.cache_branch_id"] == tuple(range(10, -1, -1))
    assert axes["tgate.gate_step"] == tuple(range(20, 0, -1))
    assert axes["tgate.warm_up"][-1] == 0
    assert axes["tome.max_downsample"] == (1, 2, 4, 8)
    assert max(axes["tome.ratio"]) <= 1 - 1 / 16
    assert 0.75 in axes["tome.ratio"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"deepcache": {"cache_interval": 1, "cache_branch_id": 0}}, "2 or more, got 1"),
        ({"deepcache": {"cache_interval": 2.5, "cache_branch_id": 0}}, "of type int, got 2.5"),
        ({"deepcache": {"cache_interval": 2, "cache_branch_id": -1}}, "0 or more, got -1"),
        ({"deepcache": {"cache_intervall": 2, "cache_branch_id": 1}}, "cache_intervall"),
        ({"tgate": gated(0)}, "gate_step must be 1 or more, got 0"),
        ({"tgate": gated(3, warm_up=-1)}, "warm_up must be 0 or more, got -1"),
        ({"tgate": {**gated(3), "sp_interval": True}}, "of type int, got True"),
        ({"fewer_steps": {"steps": 0}}, "steps must be 1 or more, got 0"),
        ({"tome": {"ratio": 0.8}}, "at most .* = 0.75, got 0.8"),
        ({"tome": {"ratio": 0.0}}, "above 0"),
        ({"tome": {"ratio": 0.5, "max_downsample": 3}}, r"one of \(1, 2, 4, 8\), got 3"),
        ({"tome": {"ratio": 0.5, "merge_attn": False}}, "nothing is merged"),
    ],
)
def test_values_out_of_bounds_are_refused(pipe: Any, parameters: Parameters, message: str) -> None:
    chosen = combination(list(parameters))
    with pytest.raises(UnsupportedError, match=message), chosen.applied(pipe, parameters):
        pass
    with pytest.raises(UnsupportedError, match=message):
        chosen.emit(parameters, SD)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (gated(20), "changes nothing"),
        (gated(21), "above the 20 steps"),
        (gated(10, sp=1, warm_up=3), "warm_up 3 does the same as 0"),
        (gated(2, sp=4), "sp_interval 4 does the same as 1"),
        (gated(20, sp=3, fi=2), "fi_interval 2 does the same as 1"),
        (gated(10, sp=9, warm_up=5), "sp_interval 9 does the same as 5"),
    ],
)
def test_candidates_that_repeat_others_are_left_out(own: dict[str, int], message: str) -> None:
    reason = combination(["tgate"]).space(SD).forbids({f"tgate.{k}": v for k, v in own.items()})
    assert reason is not None and message in reason


def test_what_is_left_out_does_the_same(pipe: Any) -> None:
    chosen, seen = combination(["tgate"]), {}
    for own, twin in (
        (gated(6, sp=1, warm_up=3), gated(6)),
        (gated(6, sp=4, warm_up=3), gated(6)),
        (gated(8, sp=2, fi=3), gated(8, sp=2)),
    ):
        for each in (own, twin):
            with chosen.applied(pipe, {"tgate": each}) as call:
                seen[str(each)] = generate(call)
        np.testing.assert_equal(seen[str(own)], seen[str(twin)])


def test_all_points_of_a_small_tgate_space_differ(pipe: Any) -> None:
    pipeline = PipelineSpec.of(pipe, steps=4, guidance_scale=7.5)
    chosen = combination(["tgate"])
    seen: dict[bytes, dict[str, Any]] = {}
    for point in chosen.space(pipeline).points():
        own = {key.split(".")[1]: value for key, value in point.items()}
        with chosen.applied(pipe, {"tgate": own}) as call:
            image = generate(call, PROMPTS[:1], num_inference_steps=4)
        assert seen.setdefault(image.tobytes(), own) is own
    assert len(seen) == 9


# ---- DeepCache ------------------------------------------------------------------------------


def calls(pipe: Any, run: Callable[[], Any]) -> Counter[str]:
    """How often each module of the U-Net that has no others in it runs."""
    counts: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update([name])

    leaves = [(n, m) for n, m in pipe.unet.named_modules() if not list(m.children())]
    handles = [module.register_forward_hook(count(name)) for name, module in leaves]
    run()
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_each_branch_id_skips_more_than_the_one_above(family: str) -> None:
    pipe = tiny.FAMILIES[family](0)
    pipeline = PipelineSpec.of(pipe, steps=2, guidance_scale=7.5)
    chosen = combination(["deepcache"])
    above: Counter[str] | None = None
    for branch in branch_ids(pipeline.block_layers)[::-1]:
        parameters = {"deepcache": {"cache_interval": 2, "cache_branch_id": branch}}
        with chosen.applied(pipe, parameters) as call:
            run = functools.partial(generate, call, PROMPTS[:1], num_inference_steps=2)
            counts = calls(pipe, run)
        assert above is None or (counts <= above and counts != above), branch
        above = counts


def test_branch_ids_beyond_skip_the_middle_alone() -> None:
    from DeepCache import DeepCacheSDHelper

    pipe = tiny.sd15()
    once = calls(pipe, lambda: generate(pipe, PROMPTS[:1], num_inference_steps=1))
    for branch in (11, 12, 40):
        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(cache_interval=2, cache_branch_id=branch)
        helper.enable()
        counts = calls(pipe, lambda: generate(pipe, PROMPTS[:1], num_inference_steps=2))
        helper.disable()
        skipped = {name for name in once if counts[name] == once[name]}
        assert skipped == {name for name in once if name.startswith("mid_block")}


@pytest.mark.parametrize(("family", "beyond"), [("SD1.5", 11), ("SD2.1", 11), ("SDXL", 8)])
def test_a_branch_that_is_not_there_is_refused(family: str, beyond: int) -> None:
    parameters = {"deepcache": {"cache_interval": 3, "cache_branch_id": beyond}}
    chosen = combination(["deepcache"])
    with (
        pytest.raises(UnsupportedError, match=f"branch_id {beyond} names no layer"),
        chosen.applied(tiny.FAMILIES[family](0), parameters),
    ):
        pass


def test_deepcache_is_refused_where_there_is_no_middle_block() -> None:
    """The package wraps the middle block, whatever the branch."""
    from DeepCache import DeepCacheSDHelper
    from diffusers import UNet2DConditionModel

    pipe = tiny.sd15()
    config = {**pipe.unet.config, "mid_block_type": None, "_use_default_values": []}
    pipe.unet = UNet2DConditionModel.from_config(config).eval()
    generate(pipe, PROMPTS[:1], num_inference_steps=2)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    with pytest.raises(AttributeError, match="NoneType"):
        helper.enable()
    pipeline = PipelineSpec.of(pipe, steps=20, guidance_scale=7.5)
    for names in (["deepcache"], ["deepcache", "tgate"]):
        ok, reason = combination(names).supports(pipeline)
        assert not ok and reason == (
            "DeepCache: needs a U-Net with a middle block, which it wraps; this one has none"
        )
    assert combination(["tgate"]).supports(pipeline) == (True, "")
    assert PipelineSpec.of_config("Any", {}, steps=20, guidance_scale=1).middle_block


# ---- T-Gate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["tgate"], ["deepcache", "tgate"]])
def test_without_guidance_tgate_is_refused(pipe: Any, names: list[str]) -> None:
    chosen = combination(names)
    ok, reason = chosen.supports(replace(SD, guided=False))
    assert not ok and "guidance" in reason
    parameters = {"tgate": gated(4), "deepcache": {"cache_interval": 2, "cache_branch_id": 0}}
    with chosen.applied(pipe, {name: parameters[name] for name in names}) as call:
        for scale in (1.0, 0, 0.5):
            with pytest.raises(UnsupportedError, match="guidance_scale"):
                generate(call, guidance_scale=scale)


def test_what_tgate_would_do_without_guidance(pipe: Any) -> None:
    """Two images of one batch become one: the reason for refusing."""
    from tgate import TgateSDLoader

    alone = TgateSDLoader(copy.deepcopy(pipe))
    with pytest.raises(ValueError, match="not enough values to unpack"):
        generate(lambda *a, **k: alone.tgate(*a, **gated(4), **k), PROMPTS[:1], guidance_scale=1.0)


def test_ungated_and_unshared_tgate_is_the_plain_pipeline(
    pipe: Any, plain: NDArray[np.float32]
) -> None:
    with combination(["tgate"]).applied(pipe, {"tgate": gated(STEPS)}) as call:
        np.testing.assert_equal(generate(call), plain)


def test_a_skipped_warm_up_step_would_leak_attention_between_calls(pipe: Any) -> None:
    """Upstream, with what `forbids` refuses: the second call reuses the first one's attention."""
    from tgate import TgateSDDeepCacheLoader

    cached, own = {"cache_interval": 2, "cache_branch_id": 0}, gated(7, sp=3, warm_up=1)
    chosen = combination(["deepcache", "tgate"])
    reason = chosen.forbids({"deepcache": cached, "tgate": own})
    assert reason is not None and "warm_up must be a multiple" in reason

    alone = TgateSDDeepCacheLoader(copy.deepcopy(pipe), **cached)

    def call(*args: Any, **kwargs: Any) -> Any:
        return alone.tgate(*args, **own, **kwargs)

    first, second = (generate(call, PROMPTS[:1]) for _ in range(2))
    assert not np.array_equal(first, second)


# ---- T-Gate and ToMe ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "merged", "message"),
    [
        (gated(5, sp=2), {}, "self-attention over merged tokens"),
        (gated(5, fi=2), {}, "self-attention over merged tokens"),
        (gated(5, sp=9, warm_up=9), {}, None),
        (gated(5), {}, None),
        (gated(5), {"merge_crossattn": True}, "cross-attention over merged tokens"),
        (gated(5, sp=2, fi=2), {"merge_attn": False, "merge_mlp": True}, None),
    ],
)
def test_reuse_of_merged_tokens_is_refused(
    own: dict[str, int], merged: dict[str, Any], message: str | None
) -> None:
    parameters = {"tgate": own, "tome": {"ratio": 0.5, **merged}}
    reason = combination(["tgate", "tome"]).forbids(parameters)
    assert reason is None if message is None else reason is not None and message in reason


# ---- ToMe -----------------------------------------------------------------------------------


def test_tome_is_refused_where_it_would_patch_nothing() -> None:
    from diffusers import UNet2DConditionModel

    pipe = tiny.sd15()
    pipe.unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type=None,
        norm_num_groups=4,
        cross_attention_dim=16,
    )
    chosen, parameters = combination(["tome"]), {"tome": {"ratio": 0.5}}
    assert not chosen.supports(PipelineSpec.of(pipe, steps=20, guidance_scale=7.5))[0]
    with (
        pytest.raises(UnsupportedError, match="0 transformer blocks"),
        chosen.applied(pipe, parameters),
    ):
        pass


def test_tome_is_refused_where_no_block_is_shallow_enough() -> None:
    """SDXL has no transformer block at full resolution: tomesd's default does nothing."""
    pipe = tiny.sdxl()
    chosen, parameters = combination(["tome"]), {"tome": {"ratio": 0.5, "max_downsample": 1}}
    with (
        pytest.raises(UnsupportedError, match=r"at downsamplings \[2, 4\]"),
        chosen.applied(pipe, parameters),
    ):
        pass
    space = chosen.space(SDXL)
    assert [axis.values for axis in space.axes if axis.name.endswith("downsample")] == [(2, 4)]


def test_tome_does_not_depend_on_what_ran_before(pipe: Any) -> None:
    images = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        with combination(["tome"]).applied(pipe, {"tome": {"ratio": 0.5}}) as call:
            images.append(generate(call))
    np.testing.assert_equal(images[0], images[1])


# ---- fewer steps ----------------------------------------------------------------------------


def test_fewer_steps_are_the_plain_call_with_fewer(pipe: Any) -> None:
    generate(pipe)
    scheduler, times = pipe.scheduler, pipe.scheduler.timesteps
    chosen, parameters = combination(["fewer_steps"]), {"fewer_steps": {"steps": 3}}
    with chosen.applied(pipe, parameters) as call:
        counted = calls(pipe, lambda: generate(call))
        images = generate(call)
    assert counted["conv_in"] == 3
    assert pipe.scheduler is scheduler and pipe.scheduler.timesteps is times
    np.testing.assert_equal(images, generate(pipe, num_inference_steps=3))


@pytest.mark.parametrize(
    ("steps", "counts"), [(20, range(19, 1, -1)), (2, [1]), (25, range(24, 2, -1))]
)
def test_fewer_steps_leave_a_tenth_at_least(steps: int, counts: Sequence[int]) -> None:
    points = combination(["fewer_steps"]).space(replace(SD, steps=steps)).points()
    assert [point["fewer_steps.steps"] for point in points] == list(counts)


def test_fewer_steps_go_with_no_other() -> None:
    both = combination(["tgate", "fewer_steps"])
    ok, reason = both.supports(SD)
    assert not ok and reason == both.conflict and "is counted in steps, and would" in reason
    assert both.forbids({"tgate": gated(5), "fewer_steps": {"steps": 9}}) == reason
    assert next(both.space(SD).points(), None) is None
    assert combination(["tgate", "tome"]).conflict is None


# ---- transfers ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [each.diffusers for each in SCHEDULERS.values()])
def test_lean_times_are_the_schedulers_own(scheduler: str) -> None:
    pipe = tiny.sd15()
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    with combination(["transfers"]).applied(pipe, {"transfers": {"images": False}}):
        pipe.scheduler.set_timesteps(STEPS, device="cpu")
        times = pipe.scheduler.timesteps
    pipe.scheduler.set_timesteps(STEPS, device="cpu")
    assert torch.equal(times, pipe.scheduler.timesteps)
    assert "set_timesteps" not in vars(pipe.scheduler)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 1])
def test_lean_images_have_the_same_bytes(
    dtype: torch.dtype, layout: torch.memory_format, channels: int
) -> None:
    """From -1.1 to 1.1, which is beyond black and white."""
    pipe = tiny.sd15()
    every = torch.linspace(-1.1, 1.1, 2 * channels * 96 * 96).to(dtype)
    generated = every.reshape(2, channels, 96, 96).contiguous(memory_format=layout)
    wanted = pipe.image_processor.postprocess(generated)
    with combination(["transfers"]).applied(pipe, {"transfers": {"images": True}}):
        images = pipe.image_processor.postprocess(generated, output_type="pil")
        numbers = pipe.image_processor.postprocess(generated, output_type="np")
    assert [image.tobytes() for image in images] == [image.tobytes() for image in wanted]
    assert [image.mode for image in images] == [image.mode for image in wanted]
    np.testing.assert_array_equal(numbers, pipe.image_processor.postprocess(generated, "np"))


# ---- combinations ---------------------------------------------------------------------------


def test_names_titles_and_slugs() -> None:
    every = combination(["tome", "tgate", "deepcache"])
    assert every.title == "DeepCache, T-Gate, and ToMe"
    assert every.slug == "deepcache+tgate+tome"
    assert combination(["tome", "deepcache"]).title == "DeepCache and ToMe"
    assert combination(["tgate"]).title == "T-Gate"


def test_unknown_empty_and_repeated_combinations() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tgate'"):
        combination(["t-gate"])
    for names in ([], ["tome", "tome"]):
        with pytest.raises(UnsupportedError, match="different accelerators, one at least"):
            combination(names)


def test_which_accelerators_change_from_step_to_step() -> None:
    """Only such can repair each other's errors by their rhythm."""
    counts = {
        "deepcache": 1,
        "tgate": 1,
        "tome": 0,
        "deepcache+tome": 1,
        "deepcache+tgate": 2,
        "deepcache+tgate+tome": 2,
    }
    pipeline = PipelineSpec.of(tiny.sd15(), steps=20, guidance_scale=7.5)
    for slug, count in counts.items():
        assert combination(slug.split("+")).changing(pipeline) == count


def test_a_parameters_must_be_for_the_combination(pipe: Any) -> None:
    chosen = combination(["deepcache", "tgate"])
    with (
        pytest.raises(UnsupportedError, match=r"for \['deepcache', 'tgate'\] names \['tgate'\]"),
        chosen.applied(pipe, {"tgate": gated(4)}),
    ):
        pass


def test_a_call_that_fails_leaves_nothing_behind(pipe: Any, plain: NDArray[np.float32]) -> None:
    chosen = combination(["deepcache", "tgate", "tome"])
    parameters: Parameters = {
        "deepcache": {"cache_interval": 3, "cache_branch_id": 0},
        "tgate": gated(4),
        "tome": {"ratio": 0.5},
    }

    def fail(pipe: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 5:
            raise KeyboardInterrupt
        return kwargs

    with pytest.raises(KeyboardInterrupt), chosen.applied(pipe, parameters) as call:
        generate(call, callback_on_step_end=fail)
    assert not hasattr(pipe, "tgate") and not hasattr(pipe, "deepcache")
    np.testing.assert_equal(generate(pipe), plain)


def test_members_added_or_taken_within_the_block_are_put_back(pipe: Any) -> None:
    chosen, attention = combination(["tome"]), pipe.unet.mid_block.attentions[0]
    members = dict(attention.named_children())
    parameters = dict(pipe.unet.conv_in.named_parameters())
    with chosen.applied(pipe, {"tome": {"ratio": 0.5}}):
        attention.added = torch.nn.Linear(1, 1)
        attention.proj_in = torch.nn.Identity()
        del pipe.unet.conv_in.bias
    assert dict(attention.named_children()) == members
    assert list(attention.named_children()) == list(members.items())
    assert dict(pipe.unet.conv_in.named_parameters()) == parameters


def test_a_block_within_another_accelerators_block(pipe: Any) -> None:
    """The inner one begins with the baseline pipeline, and the outer one goes on after it."""
    outer, cached = combination(["deepcache", "tgate"]), combination(["deepcache"])
    params = {"cache_interval": 3, "cache_branch_id": 0}
    with cached.applied(pipe, {"deepcache": params}) as call:
        alone = generate(call)
    with outer.applied(pipe, {"deepcache": params, "tgate": gated(4)}) as call:
        once = generate(call)
        with cached.applied(pipe, {"deepcache": params}) as inner:
            np.testing.assert_equal(generate(inner), alone)
        np.testing.assert_equal(generate(call), once)


def test_emitted_scripts_say_no_more_than_needed() -> None:
    (tome,) = combination(["tome"]).emit({"tome": {"ratio": 0.5, "max_downsample": 2, "sx": 2}}, SD)
    assert tome.enter[0] == "tomesd.apply_patch(pipe, ratio=0.5, max_downsample=2)"
    parameters: Parameters = {
        "deepcache": {"cache_interval": 3, "cache_branch_id": 0},
        "tgate": gated(4),
    }
    (both,) = combination(["tgate", "deepcache"]).emit(parameters, SDXL)
    assert both.enter == ("TgateSDXLDeepCacheLoader(pipe, cache_interval=3, cache_branch_id=0)",)
    assert both.call == "pipe.tgate"
    assert dict(both.arguments)["gate_step"] == "4"


# ---- what the packages leave behind ---------------------------------------------------------


def test_deepcache_leaves_its_forward_upstream(pipe: Any) -> None:
    from DeepCache import DeepCacheSDHelper

    alone = copy.deepcopy(pipe)
    helper = DeepCacheSDHelper(pipe=alone)
    helper.set_params(cache_interval=3, cache_branch_id=0)
    helper.enable()
    helper.disable()
    assert "forward" in vars(alone.unet)


@pytest.mark.parametrize("loader", ["TgateSDLoader", "TgateSDDeepCacheLoader"])
def test_tgate_breaks_the_plain_pipeline_upstream(pipe: Any, loader: str) -> None:
    import tgate

    alone = getattr(tgate, loader)(copy.deepcopy(pipe))
    generate(lambda *args, **kwargs: alone.tgate(*args, **gated(4), **kwargs))
    with pytest.raises(RuntimeError, match="must match the size"):
        generate(alone)


def test_tomesd_cuts_the_ratio_and_generates_from_the_global_state_upstream(pipe: Any) -> None:
    import tomesd

    alone, images = copy.deepcopy(pipe), []
    for ratio, seed in ((0.75, 0), (0.9, 0), (0.75, 1)):
        tomesd.apply_patch(alone, ratio=ratio)
        torch.manual_seed(seed)
        images.append(generate(alone))
    np.testing.assert_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
