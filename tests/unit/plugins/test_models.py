"""The families: published sizes, what is taken from them, and what is refused."""

from __future__ import annotations

import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from diffaccel.errors import InputError
from diffaccel.evaluation import bench
from diffaccel.evaluation.baseline import run_baseline
from diffaccel.experiment.config import ConfigError, load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.resolve import model_spec
from diffaccel.machine.devices import Device
from diffaccel.plugins import sources
from diffaccel.plugins.models import FAMILIES, ModelError, ModelSpec, _hub
from diffaccel.plugins.models._memory import check_memory, free_host_bytes
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes.codegen import Script, render
from tests.unit.original import single_file

SCORER = "resources/models/mini-clip"
PROMPTS = "resources/prompts/mini.txt"
PUBLISHED = {
    "SD1.5": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "SD2.1": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "SDXL": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}
"""Parameters of each part of the released models."""


def spec_of(**entry: Any) -> ModelSpec:
    return model_spec(load({"models": [entry]}).models[0])


# Without weights


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_model_has_the_published_sizes(family: str) -> None:
    spec = spec_of(name="bare", family=family, untrained=True)
    pipe = FAMILIES[family].load(spec, "float16", "meta")
    counts = {
        name: sum(weights.numel() for weights in part.parameters())
        for name, part in pipe.components.items()
        if hasattr(part, "parameters")
    }
    assert counts == PUBLISHED[family]
    assert type(pipe).__name__ == FAMILIES[family].pipeline_class
    own = FAMILIES[family].known[0]
    assert pipe.unet.config.sample_size * 8 == own.height == own.width
    assert {str(part.dtype) for part in (pipe.unet, pipe.vae)} == {"torch.float16"}
    ids = pipe.tokenizer("Größe", padding="max_length").input_ids
    assert len(ids) == 77 and max(ids) < pipe.text_encoder.config.vocab_size
    assert not pipe.unet.training and not pipe.text_encoder.training


def test_an_untrained_model_is_told_by_its_spec() -> None:
    spec = spec_of(name="bare", family="SDXL", untrained=True, batch_size=2)
    assert (spec.untrained, spec.source, spec.vae, spec.batch_size) == (True, "", None, 2)
    assert spec_of(name="SD2.1", untrained=True).height == 768


def test_an_untrained_model_can_have_the_sizes_of_a_folder(tmp_path: Path) -> None:
    folder = tiny.save("SDXL", tmp_path)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    spec = spec_of(name="bare", family="SDXL", untrained=True, source=str(folder))
    pipe = FAMILIES["SDXL"].load(spec, "float16", "cpu")
    like = tiny.sdxl()
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        part, other = getattr(pipe, name), getattr(like, name)
        shapes = {key: value.shape for key, value in part.state_dict().items()}
        assert shapes == {key: value.shape for key, value in other.state_dict().items()}
        assert not part.training
        assert {str(value.dtype) for value in part.parameters()} == {"torch.float16"}
    assert pipe.tokenizer("a").input_ids == like.tokenizer("a").input_ids


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"family": "SDXL", "variant": "x", "vae": "y"}, "so leave out variant, vae"),
        ({"family": "SDXL", "source": "nowhere"}, "there is no folder 'nowhere'"),
        ({}, "so name the family: SD1.5, SD2.1, SDXL"),
    ],
)
def test_what_an_untrained_model_cannot_have(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"models": [{"name": "bare", "untrained": True, **entry}]})
    assert says in str(caught.value)


# Of one's own


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small pipeline of each family, as ``save_pretrained`` writes it. Tests only read them."""
    root = tmp_path_factory.mktemp("folders")
    return {family: tiny.save(family, root / family) for family in FAMILIES}


def own(source: Path, **entry: Any) -> ModelSpec:
    """A model of which the configuration says as little as it can."""
    return spec_of(name="mine", source=str(source), scorer=SCORER, prompts=PROMPTS, **entry)


def weights_of(pipe: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for key, value in part.state_dict().items()
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].shape == second[name].shape and torch.equal(first[name], second[name])
        for name in first
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_tells_family_and_size(family: str, folders: dict[str, Path]) -> None:
    spec = own(folders[family])
    assert (spec.family, spec.height, spec.width) == (family, 32, 32)
    original = FAMILIES[family].known[0]
    assert (spec.guidance_scale, spec.batch_size) == (original.guidance_scale, original.batch_size)
    assert (spec.vae, spec.variant) == (None, None), "those of the original's weights"
    pipe = FAMILIES[family].load(spec, "float32", "cpu")
    assert same(weights_of(pipe), weights_of(tiny.FAMILIES[family](0)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    pipe, config = tiny.FAMILIES[family](0), folders[family]
    if family == "SDXL":
        # Its two text encoders are told apart by their widths.
        wide = CLIPTextModelWithProjection(
            CLIPTextConfig(**{**pipe.text_encoder_2.config.to_dict(), "hidden_size": 32})
        )
        pipe.register_modules(text_encoder_2=wide)
        config = tmp_path / "config"
        pipe.save_pretrained(config)
    path = tmp_path / "all.safetensors"
    save_file(single_file(pipe), path)
    spec = own(path, config=str(config), height=32, width=32)
    assert spec.family == family
    loaded = FAMILIES[family].load(spec, "float32", "cpu")
    assert same(weights_of(loaded), weights_of(pipe))
    assert loaded.scheduler.config.prediction_type == pipe.scheduler.config.prediction_type

    script = tmp_path / "script.py"
    name, arguments = FAMILIES[family].pipeline_class, FAMILIES[family].load_arguments()
    rendered = Script("x", str(path), name, "DDIMScheduler", 2, 7.5, 32, 32, config=spec.config)
    script.write_text(render(replace(rendered, load_arguments=arguments)), encoding="utf-8")
    by_script = runpy.run_path(str(script))["load_pipeline"](device="cpu")
    assert same(weights_of(by_script), weights_of(pipe))


def test_another_vae_and_a_variant(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "half"
    pipe = tiny.sd15(3)
    pipe.to(torch.float16).save_pretrained(folder, variant="fp16")
    with pytest.raises(ModelError, match=r"no \.safetensors weights; it has .*fp16.*: set variant"):
        FAMILIES["SD1.5"].load(own(folder), "float32", "cpu")
    spec = own(folder, variant="fp16", vae=str(folders["SD1.5"] / "vae"))
    loaded = FAMILIES["SD1.5"].load(spec, "float32", "cpu")
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight.float())
    assert torch.equal(loaded.vae.quant_conv.weight, tiny.sd15(0).vae.quant_conv.weight)


# Refused


def broken(folder: Path, how: str) -> dict[str, str]:
    """Breaks a pipeline in a folder; the entries of the configuration that name it."""
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    match how:
        case "gone":
            shutil.rmtree(folder)
            folder.mkdir()
        case "pickled":
            weights.rename(weights.with_suffix(".bin"))
        case "pointer":
            weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "garbage":
            weights.write_bytes(b"\xff" * 100)
        case "no text encoder":
            (folder / "text_encoder/model.safetensors").unlink()
        case "index":
            (folder / "model_index.json").write_text("[]")
        case "class":
            return {"family": "SDXL"}
        case "variant":
            return {"variant": "fp8"}
        case "vae":
            return {"vae": str(folder)}
        case "checkpoint":
            (folder / "model.ckpt").touch()
            return {"source": str(folder / "model.ckpt")}
        case "file":
            (folder / "model.safetensors").touch()
            return {"source": str(folder / "model.safetensors")}
        case "scorer":
            return {"scorer": str(folder / "clip")}
    return {}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("gone", "is not a folder in diffusers' format (it has no model_index.json)"),
        ("pickled", "unet has only pickled weights (diffusion_pytorch_model.bin)"),
        ("pointer", "is a Git LFS pointer: fetch the file itself"),
        ("cut", "is not whole: it has"),
        ("garbage", "is not a safetensors file"),
        ("no text encoder", "text_encoder has no .safetensors weights"),
        ("index", "model_index.json holds no JSON object"),
        (
            "class",
            "is a StableDiffusionPipeline, but the family 'SDXL' needs a StableDiffusionXL",
        ),
        ("variant", "has no weights of the variant 'fp8'; it has: none, so leave variant out"),
        ("vae", "vae: "),
        ("checkpoint", "model.ckpt is a pickle, which is not loaded"),
        ("file", "there is no file "),
        ("scorer", "clip has no config.json"),
    ],
)
def test_a_broken_model_is_one_clear_message(
    how: str, says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "model")
    entry = {"family": "SD1.5", "source": str(folder), "scorer": SCORER} | broken(folder, how)
    spec = spec_of(name="mine", **entry)
    if how == "file":  # it was there when the configuration was read
        Path(spec.source).unlink()
    with pytest.raises(ModelError) as caught:
        FAMILIES[spec.family].fetch(spec)
    message = str(caught.value)
    assert message.startswith("model 'mine': ") and says in message and "\n" not in message


def test_what_does_not_fit_is_not_loaded() -> None:
    free = free_host_bytes()
    assert free is not None and free > 0
    check_memory("x", free // 8, "float32", "cpu")
    with pytest.raises(
        ModelError, match=r"'x': its weights take .* GB in float16 and the host has"
    ):
        check_memory("x", free, "float16", "cpu")


def test_what_the_disk_has_no_room_for_is_not_downloaded() -> None:
    found = _hub.Found(f"me/huge@{'0' * 40}", Path(), {"model.safetensors": 10**18})
    with pytest.raises(
        ModelError, match=r"'me/huge' has 1000000000\.0 GB to download and .* GB free"
    ):
        _hub.check_space(found, ["model.safetensors"])


@pytest.mark.parametrize(
    ("source", "local", "parts"),
    [
        ("owner/name", False, ("owner/name", None)),
        ("owner/name@refs/pr/3", False, ("owner/name", "refs/pr/3")),
        ("./owner/name", True, ("./owner/name", None)),
        ("/data/name", True, ("/data/name", None)),
        ("owner/name.safetensors", True, ("owner/name.safetensors", None)),
        ("resources/models/nothing", True, ("resources/models/nothing", None)),
        ("resources/models", True, ("resources/models", None)),
        ("", True, ("", None)),
    ],
)
def test_ids_and_paths(source: str, local: bool, parts: tuple[str, str | None]) -> None:
    assert sources.is_local(source) is local
    assert sources.split(source) == parts


# Against which baseline


def test_a_baseline_is_of_one_model_only(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "model")
    spec = own(folder, batch_size=2)
    opened = bench.open_bench(
        Configuration("mine", "DDIM", 2), spec, MeasureOptions(prompts=2), Device("cpu")
    )
    record, _ = run_baseline(opened)
    bench.check_same(opened, record)
    save_file(tiny.sd15(1).vae.state_dict(), folder / "vae/diffusion_pytorch_model.safetensors")
    other = replace(opened, prompts=opened.prompts[::-1])
    with pytest.raises(InputError, match="with another model and another prompts than this"):
        bench.check_same(other, record)
