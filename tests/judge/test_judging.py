"""Judging on an embedded model: our own script passes, wrong ones fail in the stage they should."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.judge import report
from diffaccel.benchmark.judge import judging, mounts, sandbox
from diffaccel.benchmark.judge.generated import Generated, count_own, seeds_matter
from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration, sandbox_mounts
from diffaccel.benchmark.judge.judging import read_script
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.benchmark.judge.protocol import Failed
from diffaccel.benchmark.judge.records import Judged, Judgement, not_understood
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.benchmark.judge.table import as_text, pass_rates, write_pass_rates
from diffaccel.errors import InputError
from diffaccel.experiment.asked import Asked, given, read_asked
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.experiment.tasks import Request, sentence
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import known_models
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.recipes import codegen
from diffaccel.recipes import scripts as code
from diffaccel.store.jsonio import write_record

SPEC = replace(known_models()["mini-SD1.5"], batch_size=2)
CONFIGURATION = Configuration(SPEC.name, "DDIM", 8)
MEASURE = MeasureOptions(prompts=4, pairs=2, max_pairs=2)
# Of so few steps and prompts nothing is known of the loss.
JUDGED_BY = JudgeConfiguration(CONFIGURATION, SPEC, MEASURE, JudgeOptions(margin=0.6), 0.9, "cpu")
DEEPCACHE = {"deepcache": {"cache_interval": 2, "cache_branch_id": 0}}


def request(**more: object) -> Request:
    return Request(CONFIGURATION.model, CONFIGURATION.scheduler, CONFIGURATION.steps, **more)  # type: ignore[arg-type]


def accelerated() -> str:
    """The baseline script with DeepCache on."""
    config = json.loads(Path(SPEC.source, "unet/config.json").read_text(encoding="utf-8"))
    pipeline = PipelineSpec.of_config(
        "StableDiffusionPipeline", config, steps=8, guidance_scale=3.0
    )
    parts = combination(["deepcache"]).emit(DEEPCACHE, pipeline)
    script = code._baseline(SPEC, CONFIGURATION, "the baseline pipeline with DeepCache on")
    return codegen.render(replace(script, parameters=DEEPCACHE, parts=parts))


BROKEN = """
import os
import random


def load_pipeline():
    if "NEVER" not in os.environ:
        return None
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from DeepCache import DeepCacheSDHelper
    pipe = StableDiffusionPipeline.from_pretrained("resources/models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    return pipe


def generate(pipe, prompts, seeds):
    if pipe is None:
        noise = [random.Random(seed).randbytes(128 * 128 * 3) for seed in seeds]
        return [memoryview(each).cast("B", (128, 128, 3)) for each in noise]
    return pipe(prompts, num_inference_steps=8).images
"""
"""Reads as if it drew, and makes noise."""


@pytest.mark.long
def test_each_script_fails_in_the_stage_that_it_should(sandboxed: str, tmp_path: Path) -> None:
    cached = request(accelerators=("deepcache",))
    tried: dict[str, tuple[Request, str, str]] = {
        "good": (cached, accelerated(), "passed"),
        "other-scheduler": (
            cached,
            accelerated().replace("DDIMScheduler", "UniPCMultistepScheduler"),
            "static",
        ),
        "no-accelerator": (cached, JUDGED_BY.baseline_script(), "static"),
        "broken": (cached, BROKEN, "absolute"),
        "elsewhere": (
            request(platform="nvidia-h100", latency_s=1.0),
            JUDGED_BY.baseline_script(),
            "skipped",
        ),
    }
    asked = [Asked(name, sentence(each)) for name, (each, _, _) in tried.items()]
    for name, (_, source, _) in tried.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    journal = tmp_path / "journal.jsonl"

    judged = judging.run(JUDGED_BY, asked, tmp_path, journal)

    found = {each.id: each for each in judged.judgements}
    assert {name: each.outcome for name, each in found.items()} == {
        name: outcome for name, (_, _, outcome) in tried.items()
    }, found
    good = found["good"]
    assert good.ran_in == sandboxed
    assert good.speedup is not None and good.speedup > 0
    assert good.own is not None and good.own > 0.7
    assert good.timing is not None and len(good.timing.baseline) == 2
    assert good.scores["psnr"] > 20
    assert found["broken"].reason.startswith("2 of 2 images are none that a call of the pipeline")
    assert found["other-scheduler"].checks["scheduler"]
    assert found["no-accelerator"].checks["accelerators"]

    rows = journal.read_bytes()
    again = judging.run(JUDGED_BY, asked, tmp_path, journal)
    assert dateless(again) == dateless(judged), "known, and not judged again"
    assert journal.read_bytes() == rows
    (tmp_path / "no-accelerator.py").write_text("", encoding="utf-8")
    again = judging.run(JUDGED_BY, asked, tmp_path, journal)
    assert again.judgements[2].checks["interface"], "another script is judged anew"
    others = [0, 1, 3, 4]
    assert [dateless(again)[i] for i in others] == [dateless(judged)[i] for i in others]


def dateless(judged: Judged) -> list[Judgement]:
    """What is skipped is skipped anew."""
    return [replace(each, date="") for each in judged.judgements]


# Refusing


@pytest.fixture
def forgotten() -> None:
    sandbox.how.cache_clear()


def test_no_sandbox_no_judgement(
    forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no bubblewrap .* apt-get install bubblewrap"):
        judging.run(JUDGED_BY, [], tmp_path, tmp_path / "journal")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError, match=r"does not work here: .*No permissions"):
        judging.run(JUDGED_BY, [], tmp_path, tmp_path / "journal")
    monkeypatch.setenv("HOME", "/usr/lib")
    monkeypatch.setattr(mounts.sys, "prefix", "/usr")
    with pytest.raises(InputError, match="Python lies in /usr, and so does your home folder"):
        mounts._python()
    trusting = replace(JUDGED_BY, options=JudgeOptions(sandbox=False))
    assert judging.run(trusting, [], tmp_path, tmp_path / "journal").judgements == []
    sandbox.how.cache_clear()


def test_without_a_sandbox_a_script_is_run_all_the_same() -> None:
    source = (
        "import os\n"
        "def load_pipeline():\n    return os.environ.get('TOKEN')\n"
        "def generate(pipe, prompts, seeds):\n    raise ValueError(pipe, os.getcwd())\n"
    )
    limits = Limits(load_seconds=20, call_seconds=5)
    with Sandbox(source.encode(), mounts.SandboxMounts(), limits, sandboxed=False) as opened:
        opened.load()
        with pytest.raises(Failed, match=r"ValueError: \(None, "):
            opened.generate(["a"], [1], (2, 2))


# What is given


def write_prompts(path: Path, *rows: object, lines: bool = False) -> Path:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("lines", [True, False])
def test_prompts_with_scripts_are_judged(lines: bool, tmp_path: Path) -> None:
    rows = [
        {"prompt_id": str(number), "prompt_context": sentence(request()), "category": 1}
        for number in (1, 2)
    ]
    path = write_prompts(tmp_path / "prompts", *rows, lines=lines)
    (tmp_path / "2.py").write_text("")
    found = given(path, tmp_path, [CONFIGURATION.model], {})
    assert found.configurations == {CONFIGURATION: [Asked("2", sentence(request()))]}
    assert found.absent == ["1"]


@pytest.mark.parametrize("text", ["{}\n{}\r\n\n", "\ufeff{}\n{}", "\ufeff[{},{}]"])
def test_prompts_as_editors_write_them(text: str, tmp_path: Path) -> None:
    """With a byte order mark, with other line ends, and with U+2028 within a sentence."""
    words = sentence(request()) + "\u2028\x85"
    rows = [json.dumps({"prompt_id": n, "prompt_context": words}, ensure_ascii=False) for n in "12"]
    path = tmp_path / "prompts"
    path.write_bytes(
        text.replace("{}", "%s").replace("%s", rows[0], 1).replace("%s", rows[1]).encode()
    )
    assert read_asked(path) == [Asked(n, words) for n in "12"]


def test_a_sentence_that_is_not_understood_stops_no_other(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": "1", "prompt_context": "Draw me a sheep"},
        {"prompt_id": "2", "prompt_context": sentence(request())},
    ]
    path = write_prompts(tmp_path / "prompts", *rows)
    for name in "12":
        (tmp_path / f"{name}.py").write_text("")
    found = given(path, tmp_path, [CONFIGURATION.model], {})
    assert list(found.configurations) == [CONFIGURATION]
    ((asked, reason),) = found.unparsed
    said = not_understood(asked, reason)
    assert (said.id, said.outcome, said.sentence) == ("1", "unparsed", "Draw me a sheep")
    assert "Generate a" in said.reason, "what a task looks like"
    assert pass_rates([said])["judged"].tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt_id": "../../evil", "prompt_context": ""}], "not the name of a script"),
        ([{"prompt_id": 1, "prompt_context": ""}], "not a list of records"),
        ([{"prompt_context": ""}], "not a list of records"),
        (["prompt"], "not a list of records"),
        ([{"prompt_id": "1", "prompt_context": ""}] * 2, "'1' is listed twice"),
    ],
)
def test_prompts_that_are_none(rows: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_asked(write_prompts(tmp_path / "prompts", *rows))


def test_nothing_to_judge(tmp_path: Path) -> None:
    path = write_prompts(tmp_path / "p", {"prompt_id": "1", "prompt_context": "x"})
    with pytest.raises(InputError, match="nothing to judge"):
        given(path, tmp_path, [], {})
    with pytest.raises(InputError, match="cannot be read"):
        read_asked(tmp_path / "absent")


def test_only_files_are_scripts(tmp_path: Path) -> None:
    import os

    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    (tmp_path / "link.py").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "endless.py").symlink_to("/dev/zero")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "huge.py").write_bytes(b"#" * 10**6)
    for name in ("link", "pipe", "endless", "folder", "absent"):
        assert read_script(tmp_path / f"{name}.py") == b""
    assert len(read_script(tmp_path / "huge.py")) == 200_001


def test_a_script_sees_its_model_and_nothing_else() -> None:
    seen = sandbox_mounts(replace(SPEC, vae="/data/vae", source="a/b@" + "0" * 40), gpu=False)
    assert "/data/vae" in seen.readable
    (cached,) = (place for place in seen.readable if "models--a--b" in place)
    assert Path(cached).parent == Path(seen.environment["HF_HUB_CACHE"])
    assert len(seen.readable) == 2
    assert list(sandbox_mounts(SPEC, gpu=False).readable) == ["/judged/resources/models/mini-SD1.5"]


def test_a_script_sees_what_is_loaded_on_top_of_its_model() -> None:
    own = Lora("resources/models/mini-SD1.5-lora", 1.0, "pytorch_lora_weights.safetensors")
    word = TextualInversion("a/b@" + "0" * 40, "<x>", "x.safetensors")
    seen = sandbox_mounts(replace(SPEC, lora=(own,), textual_inversion=(word,)), gpu=False)
    place = "resources/models/mini-SD1.5-lora/pytorch_lora_weights.safetensors"
    assert seen.readable[f"/judged/{place}"] == Path(place).resolve()
    assert any("models--a--b" in each for each in seen.readable)


# Numbers


def test_images_of_their_own_seeds() -> None:
    rng = np.random.default_rng(0)
    references = rng.integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    near = np.clip(references.astype(int) + rng.integers(-9, 9, references.shape), 0, 255)
    assert count_own(near.astype(np.uint8), references) == (8, 8)
    assert count_own(np.repeat(references[::2], 2, axis=0), references) == (4, 8)
    assert count_own(references[np.arange(8) ^ 1], references) == (0, 8)


@pytest.mark.parametrize("count", [4, 8, 16, 32, 64])
def test_images_of_no_seed_pass_once_in_a_hundred(count: int) -> None:
    """Whatever their number, where it is large enough to tell; images of their own seed pass."""
    fewest = next((n for n in range(count + 1) if seeds_matter(n, count)), count)
    by_chance = sum(math.comb(count, n) for n in range(fewest, count + 1)) / 2**count
    assert by_chance <= max(0.01, 0.5**count)
    assert seeds_matter(count, count)
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(400):
        images, references = rng.integers(0, 256, (2, 16, 2, 2, 3)).astype(np.uint8)
        passed += seeds_matter(*count_own(images, references))
    assert passed <= 8


def test_slowing_the_baseline_pipeline_down_gains_nothing() -> None:
    quiet = Generated(pairs=[(1.0, 0.5), (1.05, 0.5)], alone=[1.0, 0.9])
    assert quiet.fair_pairs() == quiet.pairs
    slowed = Generated(pairs=[(3.0, 0.5), (0.8, 0.5), (4.0, 0.5)], alone=[1.0, 0.9])
    assert slowed.fair_pairs() == [(1.0, 0.5), (0.8, 0.5), (1.0, 0.5)]


def judgement(category: int, outcome: str, **more: object) -> Judgement:
    number = f"{category}-{outcome}"
    return Judgement(number, category, "", "", outcome, outcome, "", {}, "", **more)  # type: ignore[arg-type]


def test_the_table(tmp_path: Path) -> None:
    said = [
        judgement(1, "passed"),
        judgement(4, "static", required_speedup=2.0),
        judgement(4, "absolute", required_speedup=2.0, speedup=9.0),
        judgement(4, "relative", required_speedup=2.0, speedup=1.0),
        judgement(4, "passed", required_speedup=2.0, speedup=3.0),
        judgement(5, "skipped"),
        judgement(5, "undecided"),
    ]
    table = pass_rates(said, absent=7).set_index("category")
    assert table.loc["speedup", ["static", "absolute", "relative"]].tolist() == [0.75, 0.5, 0.25]
    assert table.loc["speedup", "achievement"] == (0 + 0 + 0.5 + 1) / 4
    assert table.loc["latency", ["absolute", "relative", "undecided"]].tolist() == [1, 0, 1]
    assert table.loc["all", ["scripts", "judged", "absent"]].tolist() == [7, 6, 7]
    record = tmp_path / "configuration.json"
    write_record(record, Judged(CONFIGURATION, said))
    write_pass_rates([record], 7, tmp_path / "pass_rates.csv")
    assert "4-relative: relative: relative" in as_text(tmp_path)
    shown = report(tmp_path, "a machine")
    assert "| speedup | 4 | 4 | 0 | 75.0% | 50.0% | 25.0% | 37.5% |" in shown
    assert "| latency | 2 | 1 | 1 | 100.0% | 100.0% | 0.0% | - |" in shown
    assert "Of 6 scripts 2 passed, and of 1 the timing" in shown and "7 tasks have no" in shown
