"""What people load on top of a pipeline: an accelerator keeps it, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from peft import LoraConfig

from diffaccel.plugins.accelerators import ACCELERATORS, UnsupportedError, combination
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes import RecipeError, apply
from tests.turns import first

from .cells import Subject, tree
from .generating import PROMPTS, Images, decoded, generate
from .test_recipes import PARTS, recipe

Subjects = Callable[[str, str], Subject]
COMPILE: dict[str, dict[str, Any]] = {"compile": {"channels_last": False}}


def with_lora(pipe: Any) -> Any:
    """A LoRA on a U-Net's attention that is not fused into the weights, and clearly seen."""
    torch.manual_seed(0)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=targets))
    for name, weight in pipe.unet.named_parameters():
        if "lora_" in name:
            weight.data *= 2.0
    return pipe


def with_ip_adapter(pipe: Any) -> Any:
    """The processors and the projection of an image that ``load_ip_adapter`` puts on a U-Net."""
    torch.manual_seed(0)
    unet, width = pipe.unet, pipe.unet.config.cross_attention_dim
    processors = {}
    for name, own in unet.attn_processors.items():
        layer = unet.get_submodule(name.removesuffix(".processor"))
        cross = name.endswith("attn2.processor")
        size = layer.to_q.in_features
        made = IPAdapterAttnProcessor2_0(size, width, num_tokens=(4,)) if cross else own
        processors[name] = made
    unet.set_attn_processor(processors)
    image = ImageProjection(width, width, num_image_text_embeds=4)
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([image])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    return pipe


def image_embeds(pipe: Any, seed: int) -> list[torch.Tensor]:
    """Of an image, for each prompt, without and with it."""
    width = pipe.unet.config.cross_attention_dim
    given = torch.randn(1, 1, width, generator=torch.Generator().manual_seed(seed))
    return [torch.cat([torch.zeros_like(given), given])]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes half a minute, and what is lost or kept is so before it."""
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)


# LoRA


def assert_kept(pipe: Any, without: Images, images: Callable[[], Images]) -> None:
    """That images have the LoRA of a pipeline, which it goes on with."""
    plain = generate(pipe)
    assert np.abs(plain - without).max() > 0.1, "the LoRA is seen"
    tolerance = ACCELERATORS["compile"].tolerance
    np.testing.assert_allclose(images(), plain, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(generate(pipe), plain)


@pytest.mark.long
def test_a_lora_that_is_not_fused_is_compiled_with_the_rest() -> None:
    """On two levels alone, since each block is traced."""
    pipe = tiny.sd15()
    levels = {
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "_use_default_values": [],
    }
    torch.manual_seed(0)
    pipe.unet = UNet2DConditionModel.from_config({**pipe.unet.config, **levels}).eval()
    without = generate(pipe)
    with_lora(pipe)
    with combination(["compile"]).applied(pipe, COMPILE) as call:
        images = generate(call)
    assert_kept(pipe, without, lambda: images)


@pytest.mark.parametrize("family", first(["SD1.5", "SDXL"]))
def test_a_lora_that_is_not_fused_is_kept(
    family: str, subjects: Subjects, uncompiled: None
) -> None:
    """By what is applied and by scripts."""
    pipe, subject = with_lora(tiny.FAMILIES[family](0)), subjects(family, "DDIMScheduler")
    pipe.scheduler = subject.pipe.scheduler
    chosen = combination(["compile"])
    script = subject.scripted(chosen, COMPILE)

    def applied() -> Images:
        before = tree(pipe)
        with chosen.applied(pipe, COMPILE) as call:
            images = generate(call)
        assert tree(pipe) == before
        return images

    def written() -> Images:
        return decoded(pipe, lambda: script.generate(pipe, list(PROMPTS), [0, 1]))

    for images in (applied, written):
        assert_kept(pipe, subject.plain, images)


def test_projections_are_fused_where_nothing_is_added(uncompiled: None) -> None:
    pipe = tiny.sd15()
    with combination(["compile"]).applied(pipe, COMPILE):
        assert hasattr(pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1, "to_qkv")


# IP-Adapter


@pytest.mark.parametrize("names", [("tgate",), ("deepcache", "tgate")])
@pytest.mark.parametrize("family", first(["SD1.5", "SDXL"]))
def test_tgate_is_refused_where_an_ip_adapter_is_loaded(family: str, names: Any) -> None:
    """When it is put on, and not in the first call: the package would leave the image out."""
    pipe = with_ip_adapter(tiny.FAMILIES[family](0))
    before = tree(pipe)
    words = "leave out what IPAdapterAttnProcessor2_0 of this U-Net adds"
    parameters = {name: PARTS[name] for name in names}
    with pytest.raises(UnsupportedError, match=words):  # noqa: SIM117
        with combination(names).applied(pipe, parameters):
            pass
    with pytest.raises(RecipeError, match=f"cannot be put on this pipeline: T-Gate: .*{words}"):
        apply(pipe, recipe(family, names))
    assert tree(pipe) == before


@pytest.mark.parametrize(
    "parameters", [{"deepcache": PARTS["deepcache"]}, {"tome": PARTS["tome"]}, COMPILE]
)
def test_others_keep_an_ip_adapter(parameters: dict[str, Any], uncompiled: None) -> None:
    pipe = with_ip_adapter(tiny.sd15())
    with combination(list(parameters)).applied(pipe, parameters) as call:
        first, second = (
            generate(call, ip_adapter_image_embeds=image_embeds(pipe, seed)) for seed in (0, 1)
        )
    assert np.abs(first - second).max() > 0.01, "the image is seen"
