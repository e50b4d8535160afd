"""Pipelines of the known layouts, tiny and with random weights, made in memory in a second.

They draw noise, but have the blocks, attention layers and calls of the real ones: for tests, and
for seeing what an accelerator does to a layout without its weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.plugins.models._untrained import END, START, byte_tokenizer, byte_vocabulary

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DiffusionPipeline,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig

WIDTH = 16
"""Channels of the text encoders and of the U-Net's first level."""
TOKENS = 16
"""Longest prompt, in tokens; there is one for each letter."""
LATENT_SIZE = 16
"""Height and width of the latents; of images, in pixels, it is twice that."""
GROUPS = 4
ATTENTION_GAIN = 3.0
"""On the attention weights that torch draws: else a prompt would hardly show in the images."""
LORA_LAYERS = [*("to_q", "to_k", "to_v", "to_out.0"), *("q_proj", "k_proj", "v_proj", "out_proj")]
"""What a LoRA changes: projections of a U-Net's attention, and of a text encoder's."""


def sd15(seed: int = 0) -> StableDiffusionPipeline:
    """SD1.5's layout: four levels, the deepest without attention, epsilon prediction."""
    return _stable_diffusion(seed, {"attention_head_dim": 2}, "epsilon")


def sd21(seed: int = 0) -> StableDiffusionPipeline:
    """SD2.1's layout: as SD1.5's with linear projections, heads by level, and v-prediction."""
    different = {
        "attention_head_dim": (1, 2, 4, 4),
        "use_linear_projection": True,
        "upcast_attention": True,
    }
    return _stable_diffusion(seed, different, "v_prediction")


def sdxl(seed: int = 0) -> StableDiffusionXLPipeline:
    """SDXL's layout: three levels, the first without attention, more transformer layers in the
    deepest, two text encoders, pooled embeddings and image sizes as further conditions."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    sizes = 6  # of the original image, of its crop, of the target: two numbers each
    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(projection_dim=WIDTH)),
        tokenizer=byte_tokenizer(TOKENS),
        tokenizer_2=byte_tokenizer(TOKENS),
        unet=_unet(
            block_out_channels=(WIDTH, 2 * WIDTH, 4 * WIDTH),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(1, 2, 4),
            use_linear_projection=True,
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=sizes * 8 + WIDTH,
        ),
        scheduler=_scheduler("epsilon", timestep_spacing="leading"),
    )
    torch.set_rng_state(torch_state)
    return _quiet(pipe)


FAMILIES: Mapping[str, Callable[[int], DiffusionPipeline]] = {
    "SD1.5": sd15,
    "SD2.1": sd21,
    "SDXL": sdxl,
}
"""Layout by the name of the model that has it."""


def save(family: str, folder: Path, seed: int = 0) -> Path:
    """Writes such a pipeline as ``from_pretrained`` reads it; gives the folder.

    The scheduler's file has no more than what is set here, as the published ones: another
    scheduler made from it then takes its own defaults for the rest, and not this one's.

    Raises:
        KeyError: the family is not in `FAMILIES`.
    """
    return _saved(FAMILIES[family](seed), folder)


def _saved(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    path = folder / "scheduler/scheduler_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    defaults = pipe.scheduler.config["_use_default_values"]
    told = {name: value for name, value in config.items() if name not in defaults}
    path.write_text(json.dumps(told, indent=2), encoding="utf-8")
    return folder


def save_lora(family: str, folder: Path, seed: int = 0) -> Path:
    """Writes a LoRA of random weights for such a pipeline, on the attention of its U-Net and of its
    text encoders; gives the file.

    Raises:
        KeyError: the family is not in `FAMILIES`.
    """
    import torch
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe, torch_state = FAMILIES[family](0), torch.get_rng_state()
    torch.manual_seed(seed)
    layers = {}
    for name in ("unet", "text_encoder", "text_encoder_2"):
        if (part := getattr(pipe, name, None)) is not None:
            own = {"r": 2, "lora_alpha": 2, "target_modules": LORA_LAYERS}
            part.add_adapter(LoraConfig(**own, init_lora_weights=False))
            weights = get_peft_model_state_dict(part)
            layers[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(weights)
    torch.set_rng_state(torch_state)
    pipe.save_lora_weights(folder, **layers)
    return folder / "pytorch_lora_weights.safetensors"


def save_inversion(family: str, folder: Path, token: str, seed: int = 0) -> Path:
    """Writes a random word for such a pipeline, as diffusers' training scripts do; gives the file.

    Raises:
        KeyError: the family is not in `FAMILIES`.
    """
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    names = ("clip_l", "clip_g") if family == "SDXL" else (token,)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "learned_embeds.safetensors"
    save_file({name: torch.randn(1, WIDTH, generator=generator) for name in names}, path)
    return path


def save_controlnet(family: str, folder: Path, seed: int = 0) -> Path:
    """Writes a ControlNet for such a pipeline, with random weights in the place of the zeros that
    training begins with; gives the folder.

    Raises:
        KeyError: the family is not in `FAMILIES`.
    """
    import torch
    from diffusers import ControlNetModel

    halved = (8, WIDTH)  # once, as images are by the autoencoder
    pipe, torch_state = FAMILIES[family](0), torch.get_rng_state()
    torch.manual_seed(seed)
    made = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=halved)
    last = made.controlnet_cond_embedding.conv_out
    for layer in (*made.controlnet_down_blocks, made.controlnet_mid_block, last):
        torch.nn.init.normal_(layer.weight, std=0.1)
    torch.set_rng_state(torch_state)
    made.save_pretrained(folder)
    return folder


def save_inpainting(family: str, folder: Path, seed: int = 0) -> Path:
    """Writes such a pipeline with a U-Net that takes a mask and a masked image besides, as models
    for inpainting have it; gives the folder.

    Raises:
        KeyError: the family is not in `FAMILIES`.
    """
    import torch

    pipe = FAMILIES[family](seed)
    first = pipe.unet.conv_in
    taken = 2 * pipe.unet.config.in_channels + 1
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(first.out_channels, taken, 3, 3, generator=generator) / (9 * taken) ** 0.5
    first.weight, first.in_channels = torch.nn.Parameter(wide), taken
    pipe.unet.register_to_config(in_channels=taken)
    return _saved(pipe, folder)


def _stable_diffusion(
    seed: int, different: Mapping[str, Any], prediction: str
) -> StableDiffusionPipeline:
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    unet = _unet(
        block_out_channels=(WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        **different,
    )
    pipe = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=byte_tokenizer(TOKENS),
        unet=unet,
        scheduler=_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    torch.set_rng_state(torch_state)
    return _quiet(pipe)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _unet(**layout: Any) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

    unet = UNet2DConditionModel(
        sample_size=LATENT_SIZE, layers_per_block=2, norm_num_groups=GROUPS, **layout
    )
    for module in unet.modules():
        if isinstance(module, Attention):
            for linear in (module.to_q, module.to_k, module.to_v, module.to_out[0]):
                linear.weight.data *= ATTENTION_GAIN
    return unet.eval()


def _vae() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=2 * LATENT_SIZE,
        block_out_channels=(WIDTH, WIDTH),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=GROUPS,
    ).eval()


def _scheduler(prediction: str, **more: Any) -> DDIMScheduler:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
        **more,
    )


def _text_config(**more: Any) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    ids = byte_vocabulary()
    return CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=ids[START],
        eos_token_id=ids[END],
        pad_token_id=ids[END],
        **more,
    )
