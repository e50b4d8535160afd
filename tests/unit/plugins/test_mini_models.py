"""The mini models: tokenizer, toy training, prompt sets, and the weights that are shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPProcessor

from diffaccel.plugins.models.mini.models import (
    FAMILIES,
    MAX_TOKENS,
    Pipeline,
    build_tokenizer,
    encode_captions,
)
from diffaccel.plugins.models.mini.prompts import SET_SIZE, prompt_sets
from diffaccel.plugins.models.mini.quality import SCHEDULERS, generate, measure, picked_share
from diffaccel.plugins.models.mini.scenes import (
    draw_scenes,
    grammar_words,
    parse_caption,
    sample_scenes,
)
from diffaccel.plugins.models.mini.train import train_family
from diffaccel.plugins.models.mini.train_unet import conditions
from diffaccel.plugins.models.mini.training import TOY, to_unit, trapezoid
from tests.turns import first

RESOURCES = Path(__file__).parents[3] / "resources"
MODELS = RESOURCES / "models"
SCORER = MODELS / "mini-clip"
BUDGET = 32 * 2**20  # bytes of all that is shipped


@pytest.fixture(scope="module", params=list(FAMILIES))
def shipped(request: pytest.FixtureRequest) -> tuple[str, Pipeline]:
    """A family's name and its pipeline as it lies in the repository."""
    pipe = DiffusionPipeline.from_pretrained(MODELS / FAMILIES[request.param].name)
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe


def test_each_word_of_the_grammar_is_one_token() -> None:
    tokenizer = build_tokenizer()
    for word in grammar_words():
        assert len(tokenizer(word)["input_ids"]) == 3, word  # start, the word, end
    longest = max((s.caption for s in sample_scenes(500, 0, held_out=True)), key=len)
    assert len(tokenizer(longest)["input_ids"]) <= MAX_TOKENS


def test_any_text_has_tokens() -> None:
    tokenizer = build_tokenizer()
    ids = encode_captions(tokenizer, ["Ünusual 漢字, 42!", ""])
    assert ids.shape == (2, MAX_TOKENS)
    assert (ids[0] != tokenizer.eos_token_id).sum() > 10


def test_the_rate_rises_stays_and_falls() -> None:
    shares = [trapezoid(step, 1000) for step in range(1001)]
    assert shares[0] < 0.01
    assert shares[300] == shares[600] == 1
    assert 0 < shares[900] < 1
    assert shares[1000] == 0


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_a_toy_training_makes_a_pipeline(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        sys.executable,
        "-m",
        "diffaccel.plugins.models.mini.train",
        "--toy",
        "--device",
        "cpu",
    ]
    # One thread: on a busy machine more of them wait for each other most of the time.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--family", name, "--base", str(MODELS), "--out", str(tmp_path)],
        env=alone,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    family = FAMILIES[name]
    pipe = DiffusionPipeline.from_pretrained(tmp_path / family.name)
    pipe.set_progress_bar_config(disable=True)
    images = generate(pipe, ["a red ring", "any text"], "DPM-Solver++", 2)
    assert images.shape == (2, 3, 128, 128)
    assert images.dtype == torch.uint8
    # A second call finds every stage done: only the folders are written again.
    train_family(family, tmp_path, TOY, torch.device("cpu"), MODELS)
    printed = capsys.readouterr().out
    assert "going on from step 2" in printed
    assert f"vae: from {tmp_path}" in printed


def test_prompt_files_are_what_the_generator_writes() -> None:
    for name, captions in prompt_sets().items():
        text = (RESOURCES / "prompts" / name).read_text(encoding="utf-8")
        assert text == "\n".join(captions) + "\n"


def test_prompt_sets_are_held_out_disjoint_and_balanced() -> None:
    sets = {name: [parse_caption(c) for c in captions] for name, captions in prompt_sets().items()}
    everything = [scene.canonical for scenes in sets.values() for scene in scenes]
    assert len(set(everything)) == 2 * SET_SIZE
    assert all(scene.held_out for scene in everything)
    for scenes in sets.values():
        for size in (8, 16, 32):
            first = scenes[:size]
            assert {len(scene.items) for scene in first} == {1, 2, 3}
            assert len({scene.ground for scene in first}) == 4
            assert len({item.shape for scene in first for item in scene.items}) == 5
            assert len({item.colour for scene in first for item in scene.items}) == 6


def test_the_shipped_weights_are_small() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) <= BUDGET


def test_the_shipped_pipelines_load_in_single_precision(shipped: tuple[str, Pipeline]) -> None:
    name, pipe = shipped
    networks = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    assert len(networks) == 2 + len(FAMILIES[name].texts)
    for part in networks:
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    text = build_tokenizer()("a large red ring")["input_ids"]
    assert pipe.tokenizer("a large red ring")["input_ids"] == text


def attention(unet: UNet2DConditionModel) -> list[tuple[int, int, int] | None]:
    """Heads, their width and the depth of the transformers of each down block."""
    found: list[tuple[int, int, int] | None] = []
    for block in unet.down_blocks:
        transformer = block.attentions[0] if hasattr(block, "attentions") else None
        if transformer is None:
            found.append(None)
            continue
        attn = transformer.transformer_blocks[0].attn1
        heads = attn.heads
        found.append((heads, attn.inner_dim // heads, len(transformer.transformer_blocks)))
    return found


# As in the originals: SD1.5 has one number of heads (8), SD2.1 and SDXL one width of heads (64);
# SDXL's transformers (1, 2 and 10 deep) begin at its second level.
LAYOUTS = {
    "sd15": ("StableDiffusionPipeline", "epsilon", nn.Conv2d, 0.18215),
    "sd21": ("StableDiffusionPipeline", "v_prediction", nn.Linear, 0.18215),
    "sdxl": ("StableDiffusionXLPipeline", "epsilon", nn.Linear, 0.13025),
}
ATTENTION = {
    "sd15": [(3, 8, 1), (3, 16, 1), (3, 32, 1), None],
    "sd21": [(3, 8, 1), (6, 8, 1), (9, 8, 1), None],
    "sdxl": [None, (5, 8, 2), (8, 8, 3)],
}


def test_the_shipped_pipelines_have_their_familys_layout(shipped: tuple[str, Pipeline]) -> None:
    name, pipe = shipped
    middle = pipe.unet.mid_block.attentions[0]
    found = (
        type(pipe).__name__,
        pipe.scheduler.config.prediction_type,
        type(middle.proj_in),
        pipe.vae.config.scaling_factor,
    )
    assert found == LAYOUTS[name]
    assert attention(pipe.unet) == ATTENTION[name]
    deepest = max(level[2] for level in ATTENTION[name] if level)
    assert len(middle.transformer_blocks) == deepest


def text_encoders(pipe: Pipeline) -> list[nn.Module]:
    return [part for name, part in pipe.components.items() if name.startswith("text_encoder")]


def test_text_encoders_are_those_of_the_layout(shipped: tuple[str, Pipeline]) -> None:
    name, pipe = shipped
    encoders = [type(part).__name__ for part in text_encoders(pipe)]
    if name != "sdxl":
        assert encoders == ["CLIPTextModel"]
        assert not hasattr(pipe.unet, "add_embedding")
        return
    assert encoders == ["CLIPTextModel", "CLIPTextModelWithProjection"]
    words, _, pooled, _ = pipe.encode_prompt("a large red ring")
    assert words.shape == (1, MAX_TOKENS, pipe.unet.config.cross_attention_dim)
    assert pipe.unet.add_embedding.linear_1.in_features == pooled.shape[1] + 6 * 32


@torch.no_grad()
def test_training_conditions_as_the_pipelines_do(shipped: tuple[str, Pipeline]) -> None:
    name, pipe = shipped
    caption = "a large red ring"
    encoders = nn.ModuleList(text_encoders(pipe))
    tokens = encode_captions(pipe.tokenizer, [caption, caption])
    empty = encode_captions(pipe.tokenizer, [""])
    dropped = torch.tensor([[False], [True]])
    words, added = conditions(FAMILIES[name], encoders, tokens, dropped, empty)
    encoded = pipe.encode_prompt(
        caption, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    torch.testing.assert_close(words, torch.cat(encoded[:2]))
    if added is None:
        assert name != "sdxl"
        return
    torch.testing.assert_close(added["text_embeds"], torch.cat(encoded[2:]))
    size = (128, 128)
    ids = pipe._get_add_time_ids(size, (0, 0), size, torch.float32, encoded[2].shape[1])
    assert added["time_ids"].tolist() == ids.repeat(2, 1).tolist()


@torch.no_grad()
def test_latents_have_unit_variance(shipped: tuple[str, Pipeline]) -> None:
    _, pipe = shipped
    images = draw_scenes(sample_scenes(64, 1, held_out=True), 1)
    latents = pipe.vae.encode(to_unit(images)).latent_dist.mean * pipe.vae.config.scaling_factor
    assert latents.mean().abs() < 0.1
    assert latents.std() == pytest.approx(1, abs=0.1)


@pytest.fixture(scope="module")
def scorer() -> CLIPModel:
    model: CLIPModel = CLIPModel.from_pretrained(SCORER, dtype=torch.float32).eval()
    return model


@pytest.mark.long
def test_the_scorer_tells_captions_apart(scorer: CLIPModel) -> None:
    captions = prompt_sets()["mini.txt"][:64]
    images = draw_scenes([parse_caption(c) for c in captions], 1)
    processor = CLIPProcessor.from_pretrained(SCORER)
    clean = measure("drawn", images, captions, scorer, processor.tokenizer)
    assert clean.right == 1
    assert clean.picked >= 0.95
    assert clean.score > 65 > 30 > clean.shuffled
    noise = 60 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = (images + noise).clamp(0, 255).to(torch.uint8)
    assert measure("noisy", noisy, captions, scorer, processor.tokenizer).score < clean.score - 5


@pytest.mark.parametrize("sampler", first(SCHEDULERS))
def test_the_shipped_pipelines_draw_what_they_are_told(
    shipped: tuple[str, Pipeline], sampler: str, scorer: CLIPModel
) -> None:
    _, pipe = shipped
    captions = prompt_sets()["mini.txt"][:4]
    images = generate(pipe, captions, sampler, 20)
    found = measure("generated", images, captions, scorer, pipe.tokenizer)
    assert found.right >= 3 / 4
    assert found.score > found.shuffled + 30


def test_the_picked_share_counts_rows_won_by_their_own_column() -> None:
    scores = torch.eye(40)
    assert picked_share(scores) == 1
    scores[3, 5] = 2.0
    assert picked_share(scores) == pytest.approx(39 / 40)
