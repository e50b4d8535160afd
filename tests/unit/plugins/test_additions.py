"""LoRAs, textual inversions and skipped layers: found, checked, loaded, and known by what they
are."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffaccel.experiment.config import load
from diffaccel.experiment.resolve import model_spec
from diffaccel.plugins.models import FAMILIES, ModelError, ModelSpec, fingerprint, local_files
from diffaccel.plugins.models._files import content_hash
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.models.mini import tiny
from diffaccel.store.jsonio import digest, to_json

SCORER = "resources/models/mini-clip"
PROMPTS = "resources/prompts/mini.txt"
WEIGHTS = "pytorch_lora_weights.safetensors"
TOKEN = "<mine>"
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Of a tiny pipeline of a family, two LoRAs and a word; tests only read it."""

    @functools.cache
    def made(family: str) -> Path:
        found = tmp_path_factory.mktemp(family)
        tiny.save(family, found / "model")
        for seed in (1, 2):
            tiny.save_lora(family, found / f"lora-{seed}", seed)
        tiny.save_inversion(family, found / "word", TOKEN)
        return found

    return made


def spec_of(family: str, source: Path, **entry: Any) -> ModelSpec:
    own = {"name": "mine", "family": family, "source": str(source / "model"), "scorer": SCORER}
    return model_spec(load({"models": [{**own, "prompts": PROMPTS, **entry}]}).models[0])


def images(spec: ModelSpec, prompt: str = "a red ring", **arguments: Any) -> np.ndarray:
    pipe = FAMILIES[spec.family].load(spec, "float32", "cpu")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    given = {"num_inference_steps": 3, "generator": generator, "output_type": "np", **arguments}
    made: np.ndarray = pipe(prompt, **given).images
    return made


# Said in the configuration


def test_a_path_alone_and_several_at_once(folder: Folder) -> None:
    source = folder("SD1.5")
    one, two = str(source / "lora-1"), str(source / "lora-2")
    for lora in (one, [one], {"source": one}, [{"source": one, "weight": 1}]):
        assert spec_of("SD1.5", source, lora=lora).lora == (Lora(one),)
    spec = spec_of("SD1.5", source, lora=[one, {"source": two, "weight": -0.5}], fused=True)
    assert spec.lora == (Lora(one), Lora(two, -0.5)) and spec.fused
    word = {"source": str(source / "word"), "token": TOKEN}
    for given in (word, [word]):
        found = spec_of("SD1.5", source, textual_inversion=given).textual_inversion
        assert found == (TextualInversion(word["source"], TOKEN),)


def test_where_there_is_none_of_it_records_and_keys_are_as_they_were(folder: Folder) -> None:
    source = folder("SD1.5")
    spec = spec_of("SD1.5", source)
    assert list(to_json(spec)) == [
        *("name", "family", "source", "height", "width", "guidance_scale", "batch_size", "scorer"),
        *("prompts", "dtype", "threads", "jobs_per_gpu", "variant", "config", "vae"),
        *("untrained", "heldout"),
    ]
    assert fingerprint(spec) == digest([content_hash(spec.source), None, None, None])


# Which file


def test_the_file_of_a_folder_is_named_once_it_was_looked_at(folder: Folder) -> None:
    source = folder("SD1.5")
    spec = spec_of("SD1.5", source, lora=str(source / "lora-1"))
    fetched = FAMILIES["SD1.5"].fetch(spec)
    assert fetched.spec.lora == (Lora(str(source / "lora-1"), 1.0, WEIGHTS),)
    assert list(fetched.lora) == [source / "lora-1" / WEIGHTS]
    assert source / "lora-1" / WEIGHTS in local_files(fetched.spec)
    assert FAMILIES["SD1.5"].fetch(fetched.spec).spec == fetched.spec


def other_keys(path: Path) -> None:
    save_file({"unet.conv_in.weight": torch.zeros(2, 2)}, path)


def wide(path: Path) -> None:
    """As SDXL's are: it attends to text of width 2048."""
    key = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
    save_file({key: torch.zeros(4, 2048)}, path)


def kohya(path: Path) -> None:
    """The same by the names of kohya-ss."""
    key = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({key: torch.zeros(4, 2048), key.replace("down", "up"): torch.zeros(8, 4)}, path)


def second_encoder(path: Path) -> None:
    key = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"
    save_file({key: torch.zeros(4, 1280)}, path)


def other_text_encoder(path: Path) -> None:
    key = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({key: torch.zeros(4, 1024)}, path)


def lokr(path: Path) -> None:
    save_file({"lycoris_unet_mid_block_resnets_0_conv1.lokr_w1": torch.zeros(4, 4)}, path)


def dora(path: Path) -> None:
    found = load_file(path)
    save_file(found | {"unet.conv_in.dora_scale": torch.zeros(4)}, path)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (lambda path: path.unlink(), "has no .safetensors file"),
    "pickled": (lambda path: path.rename(path.with_suffix(".bin")), ".bin is a pickle, which is"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
        "is a Git LFS pointer: fetch the file itself",
    ),
    "several": (
        lambda path: (
            [shutil.copy(path, path.with_name(f"{n}.safetensors")) for n in "ab"] and path.unlink()
        ),
        "has several files of weights: a.safetensors, b.safetensors; say which as weight_name",
    ),
    "no LoRA": (other_keys, "is not a LoRA: none of its 1 tensors has a LoRA's name, e.g. 'unet.c"),
    "a LoKr": (
        lokr,
        "is a LoHa, LoKr or OFT file (lycoris_unet_mid_block_resnets_0_conv1.lokr_w1)",
    ),
    "SDXL's": (wide, "was made for SDXL (cross-attention width 2048); this model is SD1.5 (width"),
    "SDXL's by kohya-ss": (kohya, "was made for SDXL (cross-attention width 2048); this model is"),
    "a DoRA": (dora, "is a DoRA (unet.conv_in.dora_scale). diffusers ignores its scales"),
    "SDXL's second text encoder": (
        second_encoder,
        "was made for SDXL: it changes a second text encoder (lora_te2_text_model_encoder_layers_0_"
        "self_attn_q_proj.lora_down.weight), and SD1.5 has only one",
    ),
    "another text encoder": (
        other_text_encoder,
        "was made for a text_encoder of width 1024; this model is SD1.5 (width 16)",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_lora_that_cannot_be_loaded_is_one_clear_message(
    how: str, folder: Folder, tmp_path: Path
) -> None:
    source = folder("SD1.5")
    shutil.copytree(source / "lora-1", tmp_path / "lora")
    spec = spec_of("SD1.5", source, lora=str(tmp_path / "lora"))
    breaks, says = BROKEN[how]
    breaks(tmp_path / "lora" / WEIGHTS)
    with pytest.raises(ModelError) as caught:
        FAMILIES["SD1.5"].fetch(spec)
    message = str(caught.value)
    assert message.startswith("model 'mine': lora: ") and says in message and "\n" not in message


def test_a_lora_of_another_family_is_refused_with_its_reason(folder: Folder) -> None:
    """A real one: SDXL's layout attends to text that is twice as wide."""
    spec = spec_of("SD1.5", folder("SD1.5"), lora=str(folder("SDXL") / "lora-1"))
    with pytest.raises(
        ModelError, match=r"cross-attention width 32\); this model is .* \(width 16"
    ):
        FAMILIES["SD1.5"].fetch(spec)
    spec = spec_of("SDXL", folder("SDXL"), lora=str(folder("SD1.5") / "lora-1"))
    with pytest.raises(
        ModelError, match=r"cross-attention width 16\); this model is .* \(width 32"
    ):
        FAMILIES["SDXL"].fetch(spec)


def test_a_file_that_is_named_may_lie_deeper(folder: Folder, tmp_path: Path) -> None:
    source = folder("SD1.5")
    (tmp_path / "all/of").mkdir(parents=True)
    shutil.copy(source / "lora-1" / WEIGHTS, tmp_path / "all/of/mine.safetensors")
    lora = {"source": str(tmp_path / "all"), "weight_name": "of/mine.safetensors"}
    fetched = FAMILIES["SD1.5"].fetch(spec_of("SD1.5", source, lora=lora))
    assert list(fetched.lora) == [tmp_path / "all/of/mine.safetensors"]
    lora["weight_name"] = "of/other.safetensors"
    with pytest.raises(ModelError, match=r"has no of/other\.safetensors; it has: of/mine"):
        FAMILIES["SD1.5"].fetch(spec_of("SD1.5", source, lora=lora))
    lora["weight_name"] = "of/other.ckpt"
    with pytest.raises(ModelError, match=r"of/other\.ckpt is a pickle"):
        FAMILIES["SD1.5"].fetch(spec_of("SD1.5", source, lora=lora))


def by_kohya(path: Path) -> dict[str, torch.Tensor]:
    """A LoRA by the names that kohya-ss gives, which knows alphas: here they are the ranks."""
    found, places = {}, {"down": "lora_down", "up": "lora_up"}
    for key, weight in load_file(path).items():
        part, _, rest = key.partition(".")
        layer, side = re.fullmatch(r"(.*?)\.lora(?:_linear_layer)?\.(\w+)\.weight", rest).groups()
        before = "lora_unet_" if part == "unet" else "lora_te_text_model_"
        name = before + layer.replace(".", "_")
        found |= {f"{name}.{places[side]}.weight": weight, f"{name}.alpha": torch.tensor(2.0)}
    return found


def test_names_of_kohya_ss(folder: Folder, tmp_path: Path) -> None:
    source = folder("SD1.5")
    save_file(by_kohya(source / "lora-1" / WEIGHTS), tmp_path / "mine.safetensors")
    theirs = images(spec_of("SD1.5", source, lora=str(tmp_path / "mine.safetensors")))
    ours = images(spec_of("SD1.5", source, lora=str(source / "lora-1")))
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


# Words


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_a_word_is_known_once_it_is_taught(family: str, folder: Folder) -> None:
    source = folder(family)
    word = {"source": str(source / "word"), "token": TOKEN}
    with_word, without = spec_of(family, source, textual_inversion=word), spec_of(family, source)
    np.testing.assert_equal(images(with_word, "a ring"), images(without, "a ring"))
    taught = images(with_word, f"a {TOKEN} ring")
    assert not np.allclose(taught, images(without, f"a {TOKEN} ring"), atol=0.01)
    pipe = FAMILIES[family].load(with_word, "float32", "cpu")
    embedding = next(iter(load_file(source / "word/learned_embeds.safetensors").values()))
    place = pipe.tokenizer.convert_tokens_to_ids(TOKEN)
    learned = pipe.text_encoder.get_input_embeddings().weight[place]
    torch.testing.assert_close(
        learned, load_file(source / "word/learned_embeds.safetensors").get("clip_l", embedding)[0]
    )


def test_words_that_do_not_fit(folder: Folder, tmp_path: Path) -> None:
    def said(family: str, path: Path) -> str:
        word = {"source": str(path), "token": TOKEN}
        with pytest.raises(ModelError) as caught:
            FAMILIES[family].fetch(spec_of(family, folder(family), textual_inversion=word))
        return str(caught.value)

    sd, sdxl = (folder(family) / "word" for family in ("SD1.5", "SDXL"))
    assert "holds 2 tensors, e.g. 'clip_g'; a textual inversion for SD1.5 holds" in said(
        "SD1.5", sdxl
    )
    assert "is for one text encoder: for SDXL it must hold 'clip_l' and 'cl" in said("SDXL", sd)
    save_file({"emb_params": torch.zeros(1, 768)}, tmp_path / "other.safetensors")
    other = said("SD1.5", tmp_path / "other.safetensors")
    assert other.startswith("model 'mine': textual_inversion: ")
    assert "made for a text_encoder of width 768; this model is SD1.5 (width 16)" in other


def test_layers_that_cannot_be_skipped(folder: Folder) -> None:
    for family, most in (("SD1.5", 1), ("SDXL", 0)):
        spec = spec_of(family, folder(family), clip_skip=most + 1)
        with pytest.raises(ModelError, match=f"clip_skip {most + 1}: .* 2 layers, .* {most} at"):
            FAMILIES[family].fetch(spec)
    spec = spec_of("SD1.5", folder("SD1.5"), clip_skip=1)
    assert FAMILIES["SD1.5"].fetch(spec).spec.clip_skip == 1


@pytest.mark.parametrize("untrained", [False, True])
def test_layers_are_skipped(untrained: bool, folder: Folder) -> None:
    source = folder("SD1.5")
    skipping = spec_of("SD1.5", source, clip_skip=1, untrained=untrained)
    torch.manual_seed(0)  # of weights that are drawn
    plain = images(skipping)
    torch.manual_seed(0)
    assert not np.array_equal(images(skipping, clip_skip=1), plain)


# Known by what they are


def test_what_an_image_depends_on_is_another_model(folder: Folder, tmp_path: Path) -> None:
    source = folder("SD1.5")
    one, two = (Lora(str(source / f"lora-{n}"), 1.0, WEIGHTS) for n in (1, 2))
    plain = spec_of("SD1.5", source)
    word = TextualInversion(str(source / "word/learned_embeds.safetensors"), TOKEN)
    changes: list[dict[str, Any]] = [
        {},
        {"lora": (one,)},
        {"lora": (two,)},
        {"lora": (dataclasses.replace(one, weight=0.5),)},
        {"lora": (one, two)},
        {"lora": (one,), "fused": True},
        {"textual_inversion": (word,)},
        {"textual_inversion": (dataclasses.replace(word, token="other"),)},
    ]
    prints = [fingerprint(dataclasses.replace(plain, **change)) for change in changes]
    assert len(set(prints)) == len(prints)
    shutil.copytree(source / "lora-1", tmp_path / "moved")
    moved = dataclasses.replace(one, source=str(tmp_path / "moved"))
    assert fingerprint(dataclasses.replace(plain, lora=(moved,))) == prints[1]


@pytest.mark.long
def test_weights_count(folder: Folder) -> None:
    source = folder("SD1.5")
    plain = images(spec_of("SD1.5", source))
    lora = str(source / "lora-1")

    def at(weight: float, **more: Any) -> np.ndarray:
        return images(spec_of("SD1.5", source, lora={"source": lora, "weight": weight}, **more))

    np.testing.assert_allclose(at(0.0), plain, atol=1e-5)
    assert not np.allclose(at(0.5), at(1.0), atol=0.01)
    np.testing.assert_allclose(at(0.5, fused=True), at(0.5), atol=1e-3)
    twice = [{"source": lora, "weight": 0.25}, {"source": lora, "weight": 0.25}]
    np.testing.assert_allclose(images(spec_of("SD1.5", source, lora=twice)), at(0.5), atol=1e-3)
