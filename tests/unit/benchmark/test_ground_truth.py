"""The benchmark's own scripts: which candidate each has, and which prompts have none and why."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffaccel.benchmark import prompt_set
from diffaccel.benchmark.ground_truth import Truth, Truths, write
from diffaccel.benchmark.prompt_set import Latency, Prompt
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.config import read
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.tasks import Category, Request
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import known_models
from diffaccel.plugins.schedulers import scheduler_named
from diffaccel.plugins.sources import is_local
from diffaccel.plugins.space import nest
from diffaccel.recipes import scripts as code
from diffaccel.recipes.recipe import recipe_of
from diffaccel.store.jsonio import read_record
from tests import store

ROOT = Path(__file__).parents[3]
CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
SPECS = known_models()
Cells = dict[tuple[str, ...], Sequence[Measurement]]


def rows(configuration: Configuration, names: tuple[str, ...]) -> list[Measurement]:
    """Of a cell: candidates from all over its space, with any speedups and losses."""
    rng = random.Random(f"{configuration} {names}")
    space = combination(names).space(store.baseline(configuration).pipeline)
    evaluated = (
        {axis.name: rng.choice(axis.values) for axis in space.axes} for _ in itertools.count()
    )
    allowed = (nest(point) for point in evaluated if space.forbids(point) is None)
    return [
        store.measurement(parameters, rng.uniform(0.9, 5), rng.uniform(-0.01, 0.04))
        for parameters in itertools.islice(allowed, 4)
    ]


def asked_of(
    configuration: Configuration,
    names: tuple[str, ...],
    speedup: float | None = None,
    max_loss: float | None = None,
    platform: str | None = None,
    latency_s: float | None = None,
) -> Request:
    """A request for this configuration."""
    model, scheduler, steps = configuration.words.values()
    return Request(model, scheduler, steps, names, speedup, max_loss, platform, latency_s)


@pytest.fixture(scope="module")
def grid() -> Experiment:
    """The benchmark's grid, on the embedded models."""
    return Experiment(read(ROOT / "resources/experiments/mini.yaml"))


@pytest.fixture(scope="module")
def prompts(grid: Experiment) -> list[Prompt]:
    fast = [
        Latency(configuration, "cpu", 1, 1.0, 0.4)
        for configuration in list(grid.configurations.values())[::9]
    ]
    return prompt_set.prompts(grid, fast)


@pytest.fixture(scope="module")
def measured(grid: Experiment) -> dict[Configuration, Cells]:
    """Everything but one configuration and one cell."""
    known: dict[Configuration, Cells] = {}
    for cell in grid.cells.values():
        known.setdefault(cell.configuration, {})[cell.accelerators] = rows(
            cell.configuration, cell.accelerators
        )
    del known[list(known)[-1]]
    del known[next(iter(known))]["deepcache", "tgate", "tome"]
    return known


@pytest.fixture(scope="module")
def made(
    prompts: list[Prompt],
    measured: dict[Configuration, Cells],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Truth]]:
    results = tmp_path_factory.mktemp("results")
    for configuration, cells in measured.items():
        store.write(results, configuration, cells)
    said = write(results / "benchmark", prompts, results, "cpu", SPECS)
    assert "27 made of category 1" in said
    record = read_record(Truths, results / "benchmark/ground_truth.json")
    return results / "benchmark/gt_code", {truth.id: truth for truth in record.truths}


@pytest.mark.long
def test_every_prompt_has_a_script_or_a_reason(
    made: tuple[Path, dict[str, Truth]], prompts: list[Prompt]
) -> None:
    folder, truths = made
    assert list(truths) == [prompt.id for prompt in prompts]
    assert {path.stem for path in folder.iterdir()} == {
        truth.id for truth in truths.values() if truth.status == "made"
    }
    for truth in truths.values():
        assert bool(truth.reason) is (truth.status != "made")
    assert {truth.status for truth in truths.values()} == {"made", "infeasible", "unmeasured"}


def test_each_has_what_was_asked_for_with_the_least_loss(
    made: tuple[Path, dict[str, Truth]], prompts: list[Prompt], measured: dict[Configuration, Cells]
) -> None:
    """Against looking at every measurement."""
    for prompt in prompts:
        request, truth = prompt.request, made[1][prompt.id]
        configuration = request.configuration
        cells = measured.get(configuration, {})
        if prompt.category == Category.PLAIN:
            assert (truth.status, truth.parameters) == ("made", {})
            continue
        if not cells or (request.accelerators and request.accelerators not in cells):
            assert truth.status == "unmeasured" and "was not searched" in truth.reason
            continue
        asked = [request.accelerators] if request.accelerators else list(cells)
        required = request.speedup or 0.0
        if request.latency_s is not None:
            plain = 8.0 / SPECS[configuration.model].batch_size
            required = plain / request.latency_s
            if required <= 1:
                assert (truth.status, truth.parameters) == ("made", {})
                continue
        fitting = [
            row
            for names in asked
            for row in cells[names]
            if row.speedup >= required and row.loss < store.LIMIT
        ]
        if not fitting:
            assert truth.status == "infeasible" and "nothing that was measured" in truth.reason
        elif required:
            assert truth.loss == min(row.loss for row in fitting)
        else:
            assert truth.speedup == max(row.speedup for row in fitting)


def test_scripts_say_what_they_do(
    made: tuple[Path, dict[str, Truth]], prompts: list[Prompt]
) -> None:
    folder, truths = made
    for prompt in prompts:
        truth, request = truths[prompt.id], prompt.request
        if truth.status != "made":
            continue
        tree = ast.parse((folder / f"{prompt.id}.py").read_text(encoding="utf-8"))
        said = " ".join((ast.get_docstring(tree) or "").split())
        assert f"Task: {prompt.text}" in said
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert scheduler_named(request.scheduler).diffusers in names
        constants = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        assert constants["MODEL"] == SPECS[request.model].source
        assert constants["STEPS"] == request.steps
        if request.accelerators:
            assert tuple(sorted(truth.parameters)) == request.accelerators
            assert f"Measured: {round(truth.speedup or 0, 2)}x" in said


def test_what_is_no_longer_met_has_no_script(tmp_path: Path) -> None:
    prompt = Prompt(7, asked_of(CONFIGURATION, ("deepcache",), 2.0, 0.02))
    path = tmp_path / "benchmark/gt_code/7.py"
    for speedup, there in ((2.1, True), (1.9, False), (2.0, True)):
        row = store.measurement(store.deepcache(3), speedup, 0.01)
        store.write(tmp_path, CONFIGURATION, {("deepcache",): [row]})
        write(tmp_path / "benchmark", [prompt], tmp_path, "cpu", SPECS)
        assert path.exists() is there
    (tmp_path / "cpu/search" / f"{CONFIGURATION.slug}.json").write_text("{")
    assert "1 unmeasured" in write(tmp_path / "benchmark", [prompt], tmp_path, "cpu", SPECS)
    assert not path.exists()


def test_a_latency_is_of_the_platform_that_it_names(tmp_path: Path) -> None:
    """The baseline pipeline takes a second an image; one that meets it by itself loses nothing."""
    configuration = Configuration("mini-SD1.5", "UniPCMultistepScheduler", 25)
    cells: Cells = {
        ("deepcache",): [store.measurement(store.deepcache(3), 2.0, 0.01)],
        ("tgate",): [store.measurement(store.tgate(9), 1.5, 0.005)],
    }
    store.write(tmp_path, configuration, cells, platform="nvidia-x")
    batch = SPECS["mini-SD1.5"].batch_size

    def asked(seconds: float, platform: str, names: tuple[str, ...] = ()) -> Truth:
        latency = seconds * 8 / batch
        request = asked_of(configuration, names, platform=platform, latency_s=latency)
        write(tmp_path / "benchmark", [Prompt(1, request)], tmp_path, "cpu", SPECS)
        (truth,) = read_record(Truths, tmp_path / "benchmark/ground_truth.json").truths
        return truth

    assert asked(1.0, "nvidia-x").parameters == {}
    assert asked(0.9, "nvidia-x").speedup == 1.5
    assert asked(0.6, "nvidia-x").speedup == 2.0
    assert asked(0.9, "nvidia-x", ("deepcache",)).speedup == 2.0
    assert asked(1.5, "nvidia-x", ("tgate",)).speedup == 1.5
    slow = asked(0.3, "nvidia-x")
    assert slow.status == "infeasible" and "3.33x" in slow.reason and "2.00x" in slow.reason
    other = asked(0.9, "cpu")
    assert other.status == "unmeasured" and other.reason.endswith("not searched on cpu")


def test_a_refused_cell_and_an_unknown_model(tmp_path: Path) -> None:
    store.write(tmp_path, CONFIGURATION, {("tome",): []}, refused={("tome",): "nothing to merge"})
    requests = [
        asked_of(CONFIGURATION, ("tome",)),
        Request("../../etc/passwd", "DDIM", 20),
        Request("SDXL", "DDIM", 20, ("tome",)),
    ]
    made = [Prompt(number, request) for number, request in enumerate(requests)]
    write(tmp_path / "benchmark", made, tmp_path, "cpu", SPECS)
    truths = read_record(Truths, tmp_path / "benchmark/ground_truth.json").truths
    assert [(truth.status, truth.reason.split(":")[0]) for truth in truths] == [
        ("infeasible", "nothing to merge"),
        ("unmeasured", "unknown model '../../etc/passwd'"),
        ("unmeasured", "SDXL_DDIM_20 was not searched"),
    ]


# Hostile input, from the records on: `test_codegen` has what enters a script at its door

FRAGMENTS = [
    '"""', "'''", '"', "'", "\\", "\n", "\r\n", "{{ 7*7 }}", "{% set a=1 %}", "{#", "}}", "#",
    "\nimport os\n", "__import__('os')", "../../etc", "/", "@", "a/b@c",
    ".safetensors", "\0", "\ud800",
]  # fmt: skip
hostile = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=6).map("".join)
CHOSEN = store.measurement(store.deepcache(3), 2.0, 0.01)


def skeleton(source: str) -> str:
    """A script's syntax tree in which every text and every number is the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
        if isinstance(node, ast.Call):  # a revision is an argument of its own
            node.keywords = [each for each in node.keywords if each.arg != "revision"]
    return ast.dump(tree)


KINDS = [(vae, config) for vae in (True, False) for config in (True, False)]
"""With a VAE of its own, and as a single file, a script loads in other lines."""


def rendered(text: str, vae: str | None, config: str | None, model: str = "m") -> tuple[str, str]:
    known = store.baseline(CONFIGURATION)
    spec = dataclasses.replace(known.spec, name=text, source=model, vae=vae, config=config)
    place = dataclasses.replace(
        known.environment, platform=text, device=text, driver=text, versions={text: text}
    )
    known = dataclasses.replace(known, spec=spec, environment=place, prompts=[text])
    chosen = dataclasses.replace(CHOSEN, date=text)
    return code.accelerated(known, recipe_of(known, chosen), text), code.baseline_script(
        spec, CONFIGURATION, text
    )


def beside(source: str) -> bool:
    """Whether it is a path of the project, which a script looks for."""
    return is_local(source) and not Path(source).is_absolute()


HARMLESS = {
    (vae, config, model, other): tuple(
        map(
            skeleton,
            rendered("x", other if vae else None, other if config else None, model),
        )
    )
    for vae, config in KINDS
    for model in ("m", "/m")
    for other in ("o", "/o")
}


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(hostile, hostile, hostile, st.sampled_from(KINDS))
def test_hostile_records_never_become_code(
    text: str, model: str, other: str, kind: tuple[bool, bool]
) -> None:
    """Whatever the texts are, a script is one that harmless ones of their kind make."""
    vae, config = (other if each else None for each in kind)
    sources = rendered(text, vae, config, model)
    for source in sources:
        source.encode("utf-8")
    like = ("m" if beside(model) else "/m", "o" if beside(other) else "/o")
    assert tuple(map(skeleton, sources)) == HARMLESS[(*kind, *like)]
