"""Files that people have: what is no model, what is a part of one, and what says how it is sampled.
Each is one message before any weights are loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from diffaccel.experiment.config import load
from diffaccel.experiment.resolve import model_spec
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES, ModelError, ModelSpec, layout_of, sampling_told
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import SchedulerError, scheduler_named
from diffaccel.store.jsonio import parse, to_json
from tests.unit.original import single_file

SCORER = "resources/models/mini-clip"
PROMPTS = "resources/prompts/mini.txt"
VAE = "first_stage_model."
State = dict[str, torch.Tensor]


def own(source: Path, **entry: Any) -> ModelSpec:
    """A model of which the configuration says as little as it can."""
    entry = {"name": "mine", "source": str(source), "scorer": SCORER, "prompts": PROMPTS} | entry
    return model_spec(load({"models": [entry]}).models[0])


def refused(spec: ModelSpec) -> str:
    """What the job that checks a model says of it."""
    with pytest.raises(ModelError) as caught:
        FAMILIES[spec.family].fetch(spec)
    message = str(caught.value)
    assert message.startswith("model 'mine': ") and "\n" not in message
    return message


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small pipeline of each family. Tests only read them."""
    root = tmp_path_factory.mktemp("folders")
    return {family: tiny.save(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def whole() -> dict[str, State]:
    """All weights of a small pipeline under the original's names, by family."""
    return {family: single_file(tiny.FAMILIES[family](0)) for family in FAMILIES}


def only(state: Mapping[str, torch.Tensor], *prefixes: str) -> State:
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def without(state: Mapping[str, torch.Tensor], *prefixes: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def named(*names: str) -> State:
    """Tensors of these names; none of them is a real model's."""
    return {name: torch.zeros(4, 4) for name in names}


# LoRA


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LoRA as diffusers saves it."""
    folder, pipe = tmp_path_factory.mktemp("lora"), tiny.sd15()
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
    layers = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
LORAS: dict[str, Callable[[State], State]] = {
    "diffusers": lambda state: state,
    "peft": lambda state: {f"base_model.model.{name}": value for name, value in state.items()},
    "kohya": lambda state: named(
        *(f"{KOHYA}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha"))
    ),
    "text encoder": lambda state: named("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"),
}


@pytest.mark.parametrize("family", [{}, {"family": "SDXL"}], ids=["untold", "told"])
@pytest.mark.parametrize("form", LORAS)
def test_a_lora_is_no_model(form: str, family: dict[str, str], lora: Path, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_file(LORAS[form](load_file(lora / "pytorch_lora_weights.safetensors")), path)
    message = refused(own(path, **family))
    assert f"{path} is a LoRA, not a model" in message
    assert "name this file under the model's `lora`" in message


@pytest.mark.parametrize(
    ("tensor", "is_one"),
    [
        ("lycoris_unet_mid_block_resnets_0_conv1.lokr_w1", "a LoHa, LoKr or OFT file"),
        ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", "a LoHa, LoKr or OFT file"),
        ("unet.conv_in.dora_scale", "a DoRA"),
    ],
)
def test_what_cannot_be_loaded_beside_a_model_is_not_advised(
    tensor: str, is_one: str, tmp_path: Path
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(named(tensor), path)
    message = refused(own(path, family="SD1.5"))
    assert f"{path} is {is_one}, not a model. It cannot be loaded beside a model" in message


def test_a_folder_with_a_lora_is_no_model(lora: Path) -> None:
    message = refused(own(lora, family="SD1.5"))
    assert f"{lora} holds a LoRA" in message and "`lora`" in message


# Other single files


OTHERS: dict[str, tuple[Callable[[State], State], str]] = {
    "VAE": (
        lambda _: tiny.sd15().vae.state_dict(),
        "is a VAE alone. Give the whole model as `source`; a VAE goes under `vae`",
    ),
    "original VAE": (lambda whole: only(whole, VAE), "is a VAE alone"),
    "bare VAE": (
        lambda whole: {name.removeprefix(VAE): value for name, value in only(whole, VAE).items()},
        "is a VAE alone",
    ),
    "text encoder": (lambda _: tiny.sd15().text_encoder.state_dict(), "is a text encoder alone"),
    "T5": (lambda _: named("shared.weight", "encoder.block.0.layer.0.x"), "is a text encoder al"),
    "U-Net": (lambda _: tiny.sd15().unet.state_dict(), "is a U-Net alone"),
    "original U-Net": (lambda whole: only(whole, "model."), "is a U-Net alone"),
    "no VAE": (
        lambda whole: without(whole, VAE),
        "has no VAE. Give the whole model as `source`, or name a VAE under `vae`",
    ),
    "no text": (lambda whole: without(whole, "cond_"), "has no text encoder. Give the whole"),
    "ControlNet": (
        lambda _: ControlNetModel.from_unet(tiny.sd15().unet).state_dict(),
        "is a ControlNet, which guides a model and is none itself",
    ),
    "original ControlNet": (lambda _: named("control_model.time_embed.0.weight"), "a ControlNet"),
    "IP-Adapter": (lambda _: named("image_proj.proj.weight"), "is an IP-Adapter"),
    "textual inversion": (
        lambda _: {"emb_params": torch.zeros(3, 768)},
        "is a textual inversion, not a model. Give the model",
    ),
    "textual inversion of SDXL": (
        lambda _: {"clip_l": torch.zeros(3, 768), "clip_g": torch.zeros(3, 1280)},
        "is a textual inversion, not a model",
    ),
    "a word": (lambda _: {"<cat>": torch.zeros(1, 768)}, "is a textual inversion, not a model"),
    "SD3": (
        lambda _: named("model.diffusion_model.joint_blocks.0.context_block.mlp.fc1.weight"),
        "is a model of SD3's architecture",
    ),
    "FLUX": (
        lambda _: named("double_blocks.0.img_attn.norm.key_norm.scale"),
        "is a model of FLUX's architecture",
    ),
    "refiner": (
        lambda _: named("conditioner.embedders.0.model.positional_embedding", "model.diffusion_x"),
        "is the refiner of SDXL",
    ),
    "Playground": (lambda whole: whole | named("edm_mean", "edm_std"), "is Playground v2.5"),
    "unknown": (lambda _: named("layers.0.x"), "no tensor has a known name (first: layers.0.x)"),
    "inpainting": (lambda whole: widened(whole, 9), "an image and a mask (inpainting)"),
    "InstructPix2Pix": (lambda whole: widened(whole, 8), "an image, to edit (InstructPix2Pix)"),
    "labels": (
        lambda whole: whole | named("model.diffusion_model.label_emb.weight"),
        "has a U-Net that needs labels or an image beside the text",
    ),
}


def widened(state: State, channels: int) -> State:
    """With a U-Net of so many input channels."""
    name = "model.diffusion_model.input_blocks.0.0.weight"
    shape = list(state[name].shape)
    return state | {name: torch.zeros(shape[0], channels, *shape[2:])}


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_is_no_whole_model_is_named(
    what: str, whole: dict[str, State], tmp_path: Path
) -> None:
    made, words = OTHERS[what]
    path = tmp_path / "file.safetensors"
    save_file({name: value.contiguous() for name, value in made(whole["SD1.5"]).items()}, path)
    message = refused(own(path))
    assert f"model 'mine': {path} " in message and words in message


def test_a_file_without_a_vae_takes_another(
    whole: dict[str, State], folders: dict[str, Path], tmp_path: Path
) -> None:
    path, config = tmp_path / "file.safetensors", str(folders["SD1.5"])
    save_file(without(whole["SD1.5"], VAE), path)
    spec = own(path, config=config, vae=str(folders["SD1.5"] / "vae"))
    pipe = FAMILIES["SD1.5"].load(spec, "float32", "cpu")
    assert torch.equal(pipe.vae.quant_conv.weight, tiny.sd15().vae.quant_conv.weight)


@pytest.mark.parametrize(("family", "named"), [("SDXL", "SD1.5"), ("SD1.5", "SD2.1")])
def test_a_file_of_another_family_is_named(
    family: str, named: str, whole: dict[str, State], tmp_path: Path
) -> None:
    path = tmp_path / "file.safetensors"
    save_file(whole[family], path)
    message = refused(own(path, family=named))
    assert f"is a {FAMILIES[family].pipeline_class} for text of width" in message
    assert f"not of the family {named!r}: name the right `family`" in message


# Prediction


@pytest.fixture
def predicting(whole: dict[str, State], tmp_path: Path) -> Path:
    """An SDXL file that says that it predicts v, with rescaled betas, by the names of two empty
    tensors."""
    path = tmp_path / "vpred.safetensors"
    save_file(whole["SDXL"] | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, path)
    return path


def test_a_file_tells_how_it_is_sampled(
    predicting: Path, whole: dict[str, State], folders: dict[str, Path], tmp_path: Path
) -> None:
    layout = layout_of(str(predicting))
    assert layout is not None and (layout.prediction, layout.zero_snr) == ("v_prediction", True)
    told = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    assert sampling_told(str(predicting)) == told

    path = tmp_path / "file.safetensors"
    save_file(whole["SDXL"] | {"v_pred": torch.tensor([])}, path)
    assert sampling_told(str(path)) == {"prediction_type": "v_prediction"}
    save_file(whole["SDXL"], path)
    assert sampling_told(str(path)) == {}
    assert sampling_told(str(folders["SD2.1"])) == {}, "its scheduler says it"
    save_file(whole["SD1.5"] | {"v_pred": torch.tensor([])}, path)
    assert own(path).family == "SD1.5", "its text encoder is SD1.5's"


def test_a_folder_tells_that_its_betas_are_rescaled(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["SDXL"], tmp_path / "model")
    for rescaled in (False, True):
        edit(folder / "scheduler/scheduler_config.json", rescale_betas_zero_snr=rescaled)
        layout = layout_of(str(folder))
        assert layout is not None and layout.zero_snr is rescaled


def test_a_file_that_predicts_v_is_not_loaded_as_another(
    predicting: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    """diffusers takes the scheduler of the configuration, whatever the file says."""
    config = shutil.copytree(folders["SDXL"], tmp_path / "config")
    spec = FAMILIES["SDXL"].fetch(own(predicting, config=str(config))).spec
    told = sampling_told(str(predicting))
    assert (spec.prediction_type, spec.rescale_betas_zero_snr) == ("v_prediction", True)
    for name in ("DDIM", "Euler"):
        assert spec.scheduler_options(scheduler_named(name)) == told
        FAMILIES["SDXL"].check_scheduler(spec, scheduler_named(name), 20)
    with pytest.raises(SchedulerError, match="rescale_betas_zero_snr=True, and Heun"):
        FAMILIES["SDXL"].check_scheduler(spec, scheduler_named("Heun"), 20)

    edit(config / "scheduler/scheduler_config.json", **told)
    spec = FAMILIES["SDXL"].fetch(own(predicting, config=str(config))).spec
    assert spec.scheduler_options(scheduler_named("DDIM")) == {}, "its configuration says it, too"


# Folders


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


INPUTS = {
    "inpainting": ({"in_channels": 9}, "takes 9 channels and gives 4: it needs an image and a mas"),
    "edit": ({"in_channels": 8}, "it needs an image, to edit (InstructPix2Pix)"),
    "variance": ({"out_channels": 8}, "takes 4 channels and gives 8"),
    "class": ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
    "labels": ({"num_class_embeds": 10}, "num_class_embeds is 10"),
    "addition": ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time'"),
    "IP-Adapter": (
        {"encoder_hid_dim_type": "ip_image_proj"},
        "encoder_hid_dim_type is 'ip_image_proj', so the U-Net needs other inputs than its fam",
    ),
    "latents": ({"in_channels": 16, "out_channels": 16}, "takes latents of 16 channels, and the "),
}


@pytest.mark.parametrize("what", INPUTS)
def test_a_unet_that_needs_more_than_text_is_refused(
    what: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    changes, words = INPUTS[what]
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "model")
    edit(folder / "unet/config.json", **changes)
    assert words in refused(own(folder))


def test_a_distilled_unet_is_not_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "model")
    edit(folder / "unet/config.json", time_cond_proj_dim=256, encoder_hid_dim_type="text_proj")
    FAMILIES["SD1.5"].check(own(folder))


def missing(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)


def unlisted(folder: Path, part: str) -> None:
    edit(folder / "model_index.json", **{part: [None, None]})


@pytest.mark.parametrize("untrained", [False, True], ids=["trained", "untrained"])
@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("tokenizer", "tokenizer.json or vocab.json"),
        ("tokenizer_2", "tokenizer.json or vocab.json"),
        ("scheduler", "scheduler_config.json"),
        ("vae", "config.json"),
        ("unet", "config.json"),
        ("text_encoder_2", "config.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(
    part: str, file: str, untrained: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    for how, words in (
        (missing, f"has no {part}/{file}: a pipeline needs unet, text_encoder, "),
        (unlisted, f"model_index.json lists no {part}: a pipeline needs unet"),
    ):
        folder = shutil.copytree(folders["SDXL"], tmp_path / how.__name__)
        how(folder, part)
        spec = own(folder, family="SDXL", untrained=untrained)
        with pytest.raises(ModelError) as caught:
            FAMILIES["SDXL"].load(spec, "float32", "cpu")
        assert words in str(caught.value) and "save_pretrained(folder)" in str(caught.value)


def test_a_folder_without_a_vae_takes_another(folders: dict[str, Path], tmp_path: Path) -> None:
    for how in (missing, unlisted):
        folder = shutil.copytree(folders["SD1.5"], tmp_path / how.__name__)
        how(folder, "vae")
        spec = own(folder, vae=str(folders["SD1.5"] / "vae"))
        assert FAMILIES["SD1.5"].load(spec, "float32", "cpu").vae is not None


def test_a_vae_of_other_latents_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    vae = shutil.copytree(folders["SD1.5"] / "vae", tmp_path / "vae")
    edit(vae / "config.json", latent_channels=16)
    message = refused(own(folders["SD1.5"], vae=str(vae)))
    assert f"takes latents of 4 channels, and the VAE in {vae} has 16" in message


def test_a_configuration_that_lacks_a_part_is_refused(
    whole: dict[str, State], folders: dict[str, Path], tmp_path: Path
) -> None:
    path, config = tmp_path / "file.safetensors", tmp_path / "config"
    save_file(whole["SD1.5"], path)
    shutil.copytree(folders["SD1.5"], config)
    missing(config, "tokenizer")
    assert f"{config} has no tokenizer/" in refused(own(path, config=str(config)))


def test_another_network_in_place_of_the_unet_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "model")
    edit(folder / "model_index.json", unet=["diffusers", "UNetMotionModel"])
    assert "unet is a UNetMotionModel; only a UNet2DConditionModel" in refused(own(folder))


# Sizes


@pytest.fixture
def oblong(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model of latents that are no square: 24 high, 16 wide."""
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "oblong")
    edit(folder / "unet/config.json", sample_size=[24, 16])
    return folder


def test_images_are_as_high_and_wide_as_the_unet_is_made_for(oblong: Path) -> None:
    spec = own(oblong)
    assert (spec.height, spec.width) == (48, 32)
    assert own(oblong, width=64).width == 64
    pipe = FAMILIES["SD1.5"].load(spec, "float32", "cpu")
    pipeline = PipelineSpec.of(pipe, steps=4, guidance_scale=7.5)
    assert (pipeline.latent_size, pipeline.latent_sides) == ((24, 16), (24, 16))
    assert parse(PipelineSpec, to_json(pipeline), "a record") == pipeline
    bare = own(oblong, untrained=True, family="SD1.5")
    assert (bare.height, bare.width) == (48, 32)
    assert FAMILIES["SD1.5"].load(bare, "float32", "cpu").unet.config.sample_size == [24, 16]


def test_accelerators_work_on_oblong_latents(oblong: Path) -> None:
    spec = own(oblong)
    pipe = FAMILIES["SD1.5"].load(spec, "float32", "cpu")
    pipe.set_progress_bar_config(disable=True)
    pipeline = PipelineSpec.of(pipe, steps=4, guidance_scale=7.5)
    parameters = {
        "deepcache": {"cache_interval": 2, "cache_branch_id": 0},
        "tome": {"ratio": 0.5, "max_downsample": 1},
    }
    chosen = combination(list(parameters))
    assert chosen.space(pipeline).axes and chosen.supports(pipeline) == (True, "")
    with chosen.applied(pipe, parameters) as call:
        (image,) = call("a dot", num_inference_steps=4).images
    assert image.size == (32, 48)


def test_a_side_for_each_stride_of_tome() -> None:
    pipeline = PipelineSpec("StableDiffusionPipeline", 4, (3, 3), (1, 2), latent_size=(8, 2))
    chosen = combination(["tome"])
    own = {"ratio": 0.5, "max_downsample": 1, "merge_attn": True}
    own |= {"merge_crossattn": False, "merge_mlp": False}

    def forbids(sx: int, sy: int) -> str | None:
        point = {f"tome.{name}": value for name, value in (own | {"sx": sx, "sy": sy}).items()}
        return chosen.space(pipeline).forbids(point)

    assert forbids(2, 4) is None
    reason = forbids(4, 2)
    assert reason is not None
    assert reason.startswith("ToMe: sx 4, sy 2 do not fit into 8 by 2 tokens (rows by columns")
