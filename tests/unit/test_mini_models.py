"""The mini models: tokenizer, toy training, prompt sets, and the weights that are shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPModel, CLIPProcessor

from diffaccel.mini.models import FAMILIES, MAX_TOKENS, build_tokenizer, encode_captions
from diffaccel.mini.prompts import SET_SIZE, prompt_sets
from diffaccel.mini.quality import generate, measure, picked_share
from diffaccel.mini.scenes import draw_scenes, grammar_words, parse_caption, sample_scenes
from diffaccel.mini.train import TOY, train_family, trapezoid

RESOURCES = Path(__file__).parents[2] / "resources"
PIPELINE, SCORER = RESOURCES / "models/mini-SD1.5", RESOURCES / "models/mini-clip"


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


def test_a_toy_training_makes_a_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "diffaccel.mini.train", "--toy", "--device", "cpu"]
    # One thread: on a busy machine more of them wait for each other most of the time.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "mini-SD1.5")
    pipe.set_progress_bar_config(disable=True)
    images = generate(pipe, ["a red ring", "any text"], "DPM-Solver++", 2)
    assert images.shape == (2, 3, 128, 128)
    assert images.dtype == torch.uint8
    # A second call finds every stage done: only the folders are written again.
    train_family(FAMILIES["sd15"], tmp_path, TOY, torch.device("cpu"))
    printed = capsys.readouterr().out
    assert "going on from step 2" in printed
    assert "vae 0" not in printed


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
    files = [file for folder in (PIPELINE, SCORER) for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 14 * 2**20


def test_the_shipped_folders_load_in_single_precision() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(PIPELINE)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, CLIPModel.from_pretrained(SCORER)):
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    text = build_tokenizer()("a large red ring")["input_ids"]
    assert pipe.tokenizer("a large red ring")["input_ids"] == text


@pytest.fixture(scope="module")
def scorer() -> CLIPModel:
    model: CLIPModel = CLIPModel.from_pretrained(SCORER, dtype=torch.float32).eval()
    return model


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


def test_the_shipped_pipeline_draws_what_it_is_told(scorer: CLIPModel) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(PIPELINE)
    pipe.set_progress_bar_config(disable=True)
    captions = prompt_sets()["mini.txt"][:6]
    images = generate(pipe, captions, "DDIM", 20)
    found = measure("generated", images, captions, scorer, pipe.tokenizer)
    assert found.right >= 4 / 6
    assert found.score > found.shuffled + 30


def test_the_picked_share_counts_rows_won_by_their_own_column() -> None:
    scores = torch.eye(40)
    assert picked_share(scores) == 1
    scores[3, 5] = 2.0
    assert picked_share(scores) == pytest.approx(39 / 40)
