"""The prompt files byte for byte: a golden copy that is written here from the agreed form alone.

Nothing of the package makes the golden copy, so that no fault of it is in both.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffaccel.benchmark.ground_truth import best
from diffaccel.benchmark.prompt_files import read, write
from diffaccel.experiment.asked import read_asked
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Category, Request, parse
from diffaccel.plugins.models import known_models
from diffaccel.recipes.known import Known
from tests import store

MODELS = ["SD1.5", "SD2.1", "SDXL"]
SAMPLERS = ["DDIM", "DPM-Solver++", "UniPCMultistepScheduler"]
STEPS = [20, 25, 50]
SINGLE = {"DeepCache": ("deepcache",), "T-Gate": ("tgate",), "ToMe": ("tome",)}
SEVERAL = {
    "DeepCache and ToMe": ("deepcache", "tome"),
    "DeepCache and T-Gate": ("deepcache", "tgate"),
    "DeepCache, T-Gate, and ToMe": ("deepcache", "tgate", "tome"),
}
SPEEDUPS = ["1.2", "1.5", "1.8", "2.0", "2.5", "3.0", "4.0"]

HEAD = {
    "gen": """[
  {
    "prompt_id": "192",
    "category": 4,
    "prompt_context": "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated \
by DeepCache with 1.2x speedup",
    "path_to_gen_code": "gen_code/192.py"
  },
  {
    "prompt_id": "193",
    "category": 4,
    "prompt_context": "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated \
by DeepCache with 1.5x speedup",
    "path_to_gen_code": "gen_code/193.py"
  },
""",
    "anno": """[
  {
    "prompt_id": "192",
    "category": 4,
    "prompt_context": "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated \
by DeepCache with 1.2x speedup",
    "path_to_gt_code": "gt_code/192.py"
  },
""",
}
TAIL = {
    "gen": """  {
    "prompt_id": "1325",
    "category": 4,
    "prompt_context": "Generate a SDXL pipeline using the UniPCMultistepScheduler sampler with 50 \
steps, accelerated by DeepCache, T-Gate, and ToMe with 4.0x speedup",
    "path_to_gen_code": "gen_code/1325.py"
  }
]""",
    "anno": """  {
    "prompt_id": "1325",
    "category": 4,
    "prompt_context": "Generate a SDXL pipeline using the UniPCMultistepScheduler sampler with 50 \
steps, accelerated by DeepCache, T-Gate, and ToMe with 4.0x speedup",
    "path_to_gt_code": "gt_code/1325.py"
  }
]""",
}
SHA256 = {
    "gen": "958e756ab3b783a3f99f51980482b6fd24497c038b027a6a1224498edfca2b5d",
    "anno": "fa712ffe830e4553d73715193ecac0eb680387277dd3fc77ab585386e321671e",
}


def sentences() -> dict[int, list[str]]:
    """By category, in order."""
    found: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    for model in MODELS:
        for sampler in SAMPLERS:
            for steps in STEPS:
                plain = (
                    f"Generate a {model} pipeline using the {sampler} sampler with {steps} steps"
                )
                found[1].append(plain)
                found[2] += [f"{plain}, accelerated by {title}" for title in SINGLE]
                found[3] += [f"{plain}, accelerated by {title}" for title in SEVERAL]
                found[4] += [
                    f"{plain}, accelerated by {title} with {speedup}x speedup"
                    for title in (*SINGLE, *SEVERAL)
                    for speedup in SPEEDUPS
                ]
    return found


def golden(category: int, start: str) -> bytes:
    """A whole file."""
    before = {1: 1, 2: 28, 3: 109, 4: 192}[category]
    folder = {"gen": "gen_code", "anno": "gt_code"}[start]
    records = [
        {
            "prompt_id": str(number),
            "category": category,
            "prompt_context": text,
            f"path_to_{folder}": f"{folder}/{number}.py",
        }
        for number, text in enumerate(sentences()[category], start=before)
    ]
    return json.dumps(records, indent=2, ensure_ascii=False).encode("utf-8")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark as it is written where nothing was measured."""
    folder = tmp_path_factory.mktemp("benchmark")
    write(folder, Experiment(Config(results=str(folder / "results"), platform="cpu")))
    return folder


@pytest.mark.parametrize("start", ["gen", "anno"])
def test_the_golden_copy_is_what_was_agreed(start: str) -> None:
    text = golden(4, start).decode()
    assert text.startswith(HEAD[start]) and text.endswith(TAIL[start])
    assert text.count('"prompt_id"') == 1134 and "precision loss" not in text
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256[start]


@pytest.mark.parametrize("start", ["gen", "anno"])
@pytest.mark.parametrize("category", [1, 2, 3, 4])
def test_files_equal_the_golden_copy(files: Path, start: str, category: int) -> None:
    written = (files / f"{start}_{category}_category.json").read_bytes()
    assert written == golden(category, start)


def test_a_latency_has_the_same_form(tmp_path: Path) -> None:
    configuration = Configuration("mini-SD1.5", "DDIM", 20)
    rows = [store.measurement(store.tgate(5), 2.0, 0.0)]
    store.write(tmp_path / "results", configuration, {("tgate",): rows})
    write(tmp_path, Experiment(Config(results=str(tmp_path / "results"), platform="cpu")))
    text = (tmp_path / "gen_5_category.json").read_text(encoding="utf-8")
    size = store.baseline(configuration).spec.batch_size
    assert text.startswith(f"""[
  {{
    "prompt_id": "1326",
    "category": 5,
    "prompt_context": "Generate a mini-SD1.5 pipeline using the DDIM sampler with 20 steps, \
running on cpu in at most {6 / size} seconds per image",
    "path_to_gen_code": "gen_code/1326.py"
  }},
""")
    assert text.endswith("}\n]")


def test_every_sentence_is_read_as_what_it_says(files: Path) -> None:
    read_back = [prompt.request for prompt in read(files / "prompts.jsonl")]
    speedups = [request for request in read_back if request.category is Category.SPEEDUP]
    expected = [
        Request(model, sampler, steps, names, float(speedup))
        for model in MODELS
        for sampler in SAMPLERS
        for steps in STEPS
        for names in (*SINGLE.values(), *SEVERAL.values())
        for speedup in SPEEDUPS
    ]
    assert speedups == expected
    for text, request in zip(sentences()[4], expected, strict=True):
        assert parse(text, list(known_models())) == request
        limited = f"{text} and precision loss not exceeding 0.02"
        assert parse(limited, list(known_models())) == replace(request, max_loss=0.02)


def test_the_judge_reads_them(files: Path) -> None:
    asked = read_asked(files / "gen_4_category.json")
    assert [each.sentence for each in asked] == sentences()[4]
    assert [each.id for each in asked] == [str(number) for number in range(192, 1326)]


def test_lists_that_name_a_loss_are_still_read(tmp_path: Path) -> None:
    text = f"{sentences()[4][0]} and precision loss not exceeding 0.02"
    row = {"prompt_id": "192", "category": 4, "prompt_context": text}
    fields = {"model": "SD1.5", "scheduler": "DDIM", "steps": 20, "accelerators": ["deepcache"]}
    line = json.dumps({**row, **fields, "speedup": 1.2, "max_loss": 0.02})
    (tmp_path / "prompts.jsonl").write_text(f"{line}\n")
    (prompt,) = read(tmp_path / "prompts.jsonl")
    assert prompt.text == text and prompt.request.max_loss == 0.02


def test_without_a_loss_the_configured_limit_holds(tmp_path: Path) -> None:
    configuration = Configuration("mini-SD1.5", "DDIM", 20)
    rows = [
        store.measurement(store.deepcache(n), speedup, loss)
        for n, speedup, loss in ((2, 1.5, 0.01), (3, 2.0, 0.03))
    ]
    store.write(tmp_path, configuration, {("deepcache",): rows})
    known = Known.read(tmp_path / "cpu", configuration)
    asked = Request(*("mini-SD1.5", "DDIM", 20), ("deepcache",), 1.2)
    chosen, loose = best(asked, known), best(replace(asked, max_loss=0.05, speedup=1.8), known)
    assert chosen is not None and chosen.parameters == store.deepcache(2)
    assert loose is not None and loose.parameters == store.deepcache(3)
