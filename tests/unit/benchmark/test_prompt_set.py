"""The benchmark's prompts: ids, order, words and files; each is read as what it was made from."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diffaccel.benchmark.prompt_files import NAMES, write
from diffaccel.benchmark.prompt_files import read as read_lines
from diffaccel.benchmark.prompt_set import Latency, grid, measured, prompts
from diffaccel.errors import InputError
from diffaccel.experiment.config import ConfigError, read
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Category, Request, parse
from diffaccel.plugins.models import known_models
from diffaccel.plugins.schedulers import SCHEDULERS
from diffaccel.store.jsonio import SUMS, RecordError, write_record
from tests import store

ROOT = Path(__file__).parents[3]
MODELS = list(known_models())
PROMPTS = prompts(grid())
CONFIGURATIONS = list(
    itertools.product(
        ["SD1.5", "SD2.1", "SDXL"],
        ["DDIM", "DPM-Solver++", "UniPCMultistepScheduler"],
        [20, 25, 50],
    )
)
ACCELERATORS = [
    ("deepcache",),
    ("tgate",),
    ("tome",),
    ("deepcache", "tome"),
    ("deepcache", "tgate"),
    ("deepcache", "tgate", "tome"),
]
SPEEDUPS = [1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0]


def test_ids_and_order() -> None:
    expected = [
        *(Request(*configuration) for configuration in CONFIGURATIONS),
        *(Request(*each, names) for each in CONFIGURATIONS for names in ACCELERATORS[:3]),
        *(Request(*each, names) for each in CONFIGURATIONS for names in ACCELERATORS[3:]),
        *(
            Request(*configuration, names, speedup)
            for configuration in CONFIGURATIONS
            for names in ACCELERATORS
            for speedup in SPEEDUPS
        ),
    ]
    assert [prompt.request for prompt in PROMPTS] == expected
    assert [prompt.number for prompt in PROMPTS] == [*range(1, 190), *range(192, 1326)]
    assert [prompt.category for prompt in PROMPTS] == [1] * 27 + [2] * 81 + [3] * 81 + [4] * 1134


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps"),
        (
            29,
            "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated by T-Gate",
        ),
        (
            189,
            "Generate a SDXL pipeline using the UniPCMultistepScheduler sampler with 50 steps, "
            "accelerated by DeepCache, T-Gate, and ToMe",
        ),
        (
            192,
            "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated by "
            "DeepCache with 1.2x speedup",
        ),
        (
            199,
            "Generate a SD1.5 pipeline using the DDIM sampler with 20 steps, accelerated by "
            "T-Gate with 1.2x speedup",
        ),
        (
            279,
            "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps, accelerated by "
            "DeepCache with 2.0x speedup",
        ),
        (
            1325,
            "Generate a SDXL pipeline using the UniPCMultistepScheduler sampler with 50 steps, "
            "accelerated by DeepCache, T-Gate, and ToMe with 4.0x speedup",
        ),
    ],
)
def test_exact_words(number: int, text: str) -> None:
    assert {prompt.number: prompt.text for prompt in PROMPTS}[number] == text


@pytest.mark.parametrize("retell", [str, str.upper, str.lower, lambda text: f"  {text}.\n"])
def test_every_prompt_is_read_as_what_it_was_made_from(retell: Any) -> None:
    for prompt in PROMPTS:
        for text in (prompt.text, prompt.text.replace(" sampler", "")):
            assert parse(retell(text), MODELS) == prompt.request


def subset(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


grids = st.builds(
    Config,
    models=subset(MODELS),
    schedulers=subset(list(SCHEDULERS)),
    steps=st.lists(st.integers(1, 1000), min_size=1, max_size=3, unique=True),
    accelerators=subset(["DeepCache", "T-Gate", "ToMe", "DeepCache and ToMe", "ToMe, T-Gate"]),
    speedups=st.lists(st.floats(1, 9, exclude_min=True), max_size=3, unique=True),
    loss_limit=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
latencies = st.builds(
    lambda plain, speedup, **told: Latency(baseline_s=plain, fastest_s=plain / speedup, **told),
    plain=st.floats(1e-5, 1e5),
    speedup=st.floats(0.5, 20),
    configuration=st.builds(
        Configuration,
        st.sampled_from(MODELS),
        st.sampled_from(list(SCHEDULERS)),
        st.integers(1, 1000),
    ),
    platform=st.sampled_from(["cpu", "nvidia-h100-80gb-hbm3"]),
    batch_size=st.integers(1, 64),
)


@given(grids, st.lists(latencies, max_size=5))
def test_prompts_of_any_grid(config: Config, known: list[Latency]) -> None:
    configurations = len(config.models) * len(config.schedulers) * len(config.steps)
    cells = configurations * len(config.accelerators)
    if configurations + cells > 191:
        with pytest.raises(InputError, match=r"only the 191 ids below 192"):
            prompts(Experiment(config), known)
        return
    made = prompts(Experiment(config), known)
    below = [prompt for prompt in made if prompt.category <= Category.COMBINATION]
    above = made[len(below) :]
    assert [prompt.number for prompt in below] == list(range(1, configurations + cells + 1))
    assert [prompt.number for prompt in above] == list(range(192, 192 + len(above)))
    categories = [prompt.category for prompt in made]
    assert categories == sorted(categories)
    assert categories.count(Category.SPEEDUP) == cells * len(config.speedups)
    for prompt in made:
        assert parse(prompt.text, MODELS) == prompt.request


@given(latencies)
def test_limits_lie_between_the_fastest_and_the_plain_pipeline(latency: Latency) -> None:
    made = prompts(Experiment(Config(speedups=[1.2, 3.0])), [latency])
    made = [prompt for prompt in made if prompt.category == Category.LATENCY]
    if latency.baseline_s / latency.fastest_s < 1.2:
        assert not made
        return
    limits = [prompt.request.latency_s for prompt in made]
    assert limits == sorted(limits, reverse=True) and len(set(limits)) == 3
    for prompt, limit in zip(made, limits, strict=True):
        assert limit is not None and latency.fastest_s < limit < latency.baseline_s
        assert prompt.request.platform == latency.platform


CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)


def experiment(results: Path, **told: Any) -> Experiment:
    return Experiment(Config(results=str(results), platform="My GPU", **told))


def save(results: Path, **speedups: float) -> None:
    """Records of a configuration, by how fast each accelerator is; none loses anything."""
    cells = {(name,): [store.measurement({}, each, 0.0)] for name, each in speedups.items()}
    store.write(results, CONFIGURATION, cells, platform="My GPU")


def test_latencies_are_those_of_the_plain_pipeline_and_the_fastest_bound(tmp_path: Path) -> None:
    save(tmp_path, deepcache=1.5, tgate=2.0, tome=1.1)
    size = store.baseline(CONFIGURATION).spec.batch_size
    (latency,) = measured(experiment(tmp_path))
    assert latency == Latency(CONFIGURATION, "my-gpu", size, 8 / size, 4 / size)


def test_an_image_takes_its_share_of_a_call_of_few_prompts(tmp_path: Path) -> None:
    save(tmp_path, tgate=2.0)
    made = store.baseline(CONFIGURATION)
    count = len(made.prompts)
    few = dataclasses.replace(made, spec=dataclasses.replace(made.spec, batch_size=4 * count))
    write_record(tmp_path / "My GPU" / "baseline" / f"{CONFIGURATION.slug}.json", few)
    found = measured(experiment(tmp_path))
    assert found == [Latency(CONFIGURATION, "my-gpu", count, 8 / count, 4 / count)]


def test_limits_are_shares_of_what_is_saved() -> None:
    latency = Latency(CONFIGURATION, "my-gpu", 8, 0.5, 0.25)
    asked = [prompt for prompt in prompts(grid(), [latency]) if prompt.category == Category.LATENCY]
    assert [(prompt.id, prompt.request.latency_s) for prompt in asked] == [
        ("1326", 0.375),
        ("1327", 0.325),
        ("1328", 0.275),
    ]
    assert asked[0].text == (
        "Generate a mini-SD1.5 pipeline using the DDIM sampler with 20 steps, running on my-gpu in "
        "at most 0.375 seconds per image"
    )


def test_what_was_not_measured_has_no_latency(tmp_path: Path) -> None:
    assert measured(experiment(tmp_path)) == []
    save(tmp_path, tgate=2.0)
    assert measured(experiment(tmp_path))
    assert measured(experiment(tmp_path, steps=[21])) == []
    (tmp_path / "My GPU" / "baseline" / f"{CONFIGURATION.slug}.json").unlink()
    assert measured(experiment(tmp_path)) == []
    assert measured(Experiment(Config(results=str(tmp_path), platform="cpu"))) == []
    store.write(tmp_path, CONFIGURATION, {("tgate",): []}, platform="My GPU")
    assert measured(experiment(tmp_path)) == []


def test_what_was_measured_beside_another_baseline_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, tgate=2.0)
    other = dataclasses.replace(store.baseline(CONFIGURATION), digest="another")
    write_record(tmp_path / "My GPU" / "baseline" / f"{CONFIGURATION.slug}.json", other)
    assert measured(experiment(tmp_path)) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}


def test_each_category_has_its_files(tmp_path: Path) -> None:
    save(tmp_path / "results", tgate=2.0)
    write(tmp_path / "out", experiment(tmp_path / "results"))
    every = prompts(grid(), measured(experiment(tmp_path / "results")))
    for kind, count in zip(Category, (27, 81, 81, 1134, 3), strict=True):
        own = [str(prompt.number) for prompt in every if prompt.category == kind]
        assert len(own) == count
        for start in ("gen", "anno"):
            listed = json.loads((tmp_path / "out" / f"{start}_{kind:d}_category.json").read_text())
            assert [each["prompt_id"] for each in listed] == own
    assert sorted(contents(tmp_path / "out")) == sorted(NAMES)
    check = ["sha256sum", "--check", "--quiet", "--strict", SUMS]
    subprocess.run(check, check=True, cwd=tmp_path / "out")


def test_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    save(tmp_path / "results", tgate=2.0)
    write(tmp_path / "here", experiment(tmp_path / "results"))
    candidates = {"results": str(tmp_path / "results"), "platform": "My GPU"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(candidates))
    command = [sys.executable, str(ROOT / "workflow" / "generate_prompts.py")]
    command += ["--config", str(tmp_path / "config.yaml")]
    for seed, out in (("1", ["--out", str(tmp_path / "there")]), ("2", [])):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([*command, *out], check=True, env=environment, cwd=ROOT)
    here = contents(tmp_path / "here")
    assert contents(tmp_path / "there") == here
    assert contents(tmp_path / "results" / "benchmark") == here


def test_only_the_files_that_are_asked_for(tmp_path: Path) -> None:
    said = write(tmp_path, experiment(tmp_path / "results"), [Category.SPEEDUP])
    assert sorted(contents(tmp_path)) == ["anno_4_category.json", "gen_4_category.json"]
    assert said == f"{tmp_path}: prompts, 1134 of category 4"


def test_it_is_said_that_nothing_was_measured(tmp_path: Path) -> None:
    said = write(tmp_path, experiment(tmp_path / "results"))
    assert "0 of category 5; it is made from measurements, and My GPU has none" in said
    assert json.loads((tmp_path / "gen_5_category.json").read_text()) == []
    assert "so it is empty" in (tmp_path / "README.md").read_text()


def test_lines_are_read_back(tmp_path: Path) -> None:
    save(tmp_path / "results", tgate=2.0)
    write(tmp_path / "out", experiment(tmp_path / "results"))
    found = read_lines(tmp_path / "out" / "prompts.jsonl")
    assert len(found) == len(PROMPTS) + 3
    assert found == prompts(grid(), measured(experiment(tmp_path / "results")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 1: not a prompt"),
        ("[]", "line 1: not a prompt"),
        ("{}", "line 1: not a prompt"),
        ('{"prompt_id": "x", "category": 1, "prompt_context": ""}', "line 1: not a prompt"),
        ('{"prompt_id": "1", "category": 1, "prompt_context": ""}', "line 1: model: "),
    ],
)
def test_lines_that_are_no_prompts(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "prompts.jsonl").write_text(f"{line}\n")
    with pytest.raises(RecordError, match=message):
        read_lines(tmp_path / "prompts.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speedup": 1.5}, "the sentence asks for something else"),
        ({"category": 3}, "the sentence asks for something else"),
        ({"speedup": 0.5}, "the speedup must be 1 or more, not 0.5"),
        ({"accelerators": ["../tome"]}, "../tome"),
        ({"steps": None}, "steps"),
    ],
)
def test_lines_that_were_changed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    write(tmp_path, experiment(tmp_path / "results"))
    lines = path.read_text().splitlines()
    path.write_text(json.dumps(json.loads(lines[189]) | change))
    with pytest.raises(InputError) as caught:
        read_lines(path)
    assert message in str(caught.value)


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", maxsplit=2)
    read: dict[str, Any] = yaml.safe_load(head)
    return read


def test_the_card_says_what_is_there(tmp_path: Path) -> None:
    save(tmp_path / "results", tgate=2.0)
    write(tmp_path, experiment(tmp_path / "results"))
    card = (tmp_path / "README.md").read_text()
    told = front_matter(card)
    line = json.loads((tmp_path / "prompts.jsonl").read_text().splitlines()[0])
    assert [feature["name"] for feature in told["dataset_info"]["features"]] == list(line)
    assert told["license"] == "apache-2.0"
    (files,) = told["configs"][0]["data_files"]
    assert files == {"split": "test", "path": "prompts.jsonl"}
    for name in line:
        assert f"`{name}`" in card
    assert "| 192 to 1325 | 1134 |" in card and "| 1326 to 1328 | 3 |" in card
    (latency,) = measured(experiment(tmp_path / "results"))
    row = f"| {latency.batch_size} | {latency.baseline_s:.3g} | {latency.fastest_s:.3g} |"
    assert f"| mini-SD1.5 | DDIM | 20 {row}" in card


def test_the_datasets_library_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets  # now: it looks at the environment when it is imported

    write(tmp_path / "out", experiment(tmp_path / "results"))
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["test"]
    assert found["test"].features["latency_s"].dtype == "float64"  # though all are null
    lines = (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()
    assert list(found["test"]) == [json.loads(line) for line in lines]


@pytest.mark.parametrize("text", ["models: [", "- DDIM", "steps: 20", "\xff"])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        read(path)
    with pytest.raises(ConfigError, match="there is no file"):
        read(tmp_path / "absent.yaml")
