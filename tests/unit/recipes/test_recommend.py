"""What is recommended from a store, and that asking is cheap."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diffaccel.cli import main
from diffaccel.errors import InputError
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import GIB, Measurement, Usage
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.tasks import Task
from diffaccel.machine import devices
from diffaccel.recipes.known import searched
from diffaccel.recipes.recipe import read_recipe, recipe_of
from diffaccel.recipes.recommend import (
    Limits,
    Recommendation,
    configuration_named,
    lines,
    recommend,
)
from diffaccel.search.records import Answer
from diffaccel.store.jsonio import SCHEMA, with_checksum, write_record
from tests import store
from tests.store import deepcache, measurement, tgate

CONFIGURATION = Configuration("SD1.5", "DDIM", 50)
CACHED = [
    measurement(deepcache(2), 1.8, 0.001),
    measurement(deepcache(3), 2.3, 0.004),
    measurement(deepcache(5), 3.1, 0.015),
    measurement(deepcache(9), 4.0, 0.15),
]
GATED = [
    measurement(tgate(40), 1.1, -0.002),
    measurement(tgate(20), 2.05, 0.003),
    measurement(tgate(5), 2.9, 0.09),
]
CELLS = {("deepcache",): CACHED, ("tgate",): GATED}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    store.write(tmp_path / "results", CONFIGURATION, CELLS)
    return tmp_path / "results"


def speeds(found: Recommendation) -> list[float]:
    return [recipe.speedup for recipe in found.recipes]


@pytest.mark.parametrize(
    ("speedup", "max_loss", "expected"),
    [
        (1.0, None, [1.1, 1.8]),
        (2.0, None, [2.05, 2.3]),
        (2.06, None, [2.3]),
        (2.0, 0.0035, [2.05]),
        (2.5, 0.2, [3.1, 2.9]),
        (3.1, None, [3.1]),
        (3.5, 0.5, [4.0]),
    ],
)
def test_the_least_loss_of_each_cell_that_fits(
    results: Path, speedup: float, max_loss: float | None, expected: list[float]
) -> None:
    found = recommend(results, CONFIGURATION, speedup, max_loss)
    assert (found.status, speeds(found)) == ("met", expected)
    assert found.max_loss == (max_loss or store.LIMIT)


def test_a_loss_on_the_limit_is_not_below_it(results: Path) -> None:
    assert recommend(results, CONFIGURATION, 3.0, 0.015).status == "nearest"
    assert recommend(results, CONFIGURATION, 3.0, 0.0150001).status == "met"


@pytest.mark.parametrize(
    ("speedup", "max_loss", "expected"),
    [
        (3.5, None, [3.1, 4.0]),
        (5.0, None, [3.1]),
        (1.2, 0.0001, [1.1, 1.8]),
    ],
)
def test_the_nearest_on_both_sides(
    results: Path, speedup: float, max_loss: float | None, expected: list[float]
) -> None:
    """The fastest within the limit, then the least loss at that speedup, as far as there are."""
    found = recommend(results, CONFIGURATION, speedup, max_loss)
    assert (found.status, speeds(found)) == ("nearest", expected)


def test_of_all_that_is_known_none_is_better(tmp_path: Path) -> None:
    """On random stores, against looking at every measurement."""
    rng = random.Random(0)
    for number in range(50):
        rows = [
            measurement(deepcache(2 + i), rng.uniform(0.8, 5), rng.uniform(-0.01, 0.05))
            for i in range(rng.randint(0, 8))
        ]
        folder = tmp_path / str(number)
        store.write(folder, CONFIGURATION, {("deepcache",): rows})
        speedup, limit = rng.uniform(1, 4), rng.uniform(0.001, 0.04)
        fitting = [row for row in rows if row.speedup >= speedup and row.loss < limit]
        found = recommend(folder, CONFIGURATION, speedup, limit)
        if fitting:
            best = min(fitting, key=lambda row: row.loss)
            assert (found.status, speeds(found)) == ("met", [best.speedup])
        else:
            assert found.status == "nearest"
            within = [row.speedup for row in rows if row.loss < limit]
            assert speeds(found)[:1] == [max(within)] if within else len(speeds(found)) < 2


def test_where_the_interval_must_keep_the_limit_it_does_here(tmp_path: Path) -> None:
    """A candidate of less loss and a wider interval may be an answer, and not in the front."""
    wide = measurement(deepcache(3), 2.2, 0.001, high=0.03)
    sure = measurement(deepcache(2, 3), 2.1, 0.002, high=0.004)
    cell = Cell(CONFIGURATION, ("deepcache",))
    task = Task("t", "target", cell, 2.0, None, store.LIMIT, None)
    answers = [Answer(task, "met", "", sure, None, None)]
    options = SearchOptions("frontier", loss_confidence="upper")
    cells: dict[tuple[str, ...], Sequence[Measurement]] = {("deepcache",): [wide, sure]}
    store.write(tmp_path, CONFIGURATION, cells, answers=answers, options=options)
    assert speeds(recommend(tmp_path, CONFIGURATION, 2.0)) == [2.1]
    store.write(tmp_path, CONFIGURATION, cells, answers=answers)
    assert speeds(recommend(tmp_path, CONFIGURATION, 2.0)) == [2.2]


def taking(measured: Measurement, seconds: float, gib: float | None) -> Measurement:
    """The same, with the time and memory of a call."""
    usage = None if gib is None else Usage(device_bytes=int(gib * GIB))
    timing = timing_of([(8.0, seconds)] * 3)
    return dataclasses.replace(measured, timing=timing, usage=usage)


def test_what_a_call_may_take(tmp_path: Path) -> None:
    cells = {
        ("deepcache",): [
            taking(CACHED[0], 4.4, 3.0),
            taking(CACHED[1], 3.5, 3.5),
            taking(CACHED[2], 2.6, 6.0),
        ],
        ("tgate",): [taking(GATED[1], 3.9, 2.0), taking(GATED[0], 7.0, None)],
    }
    store.write(tmp_path, CONFIGURATION, cells)

    def asked(latency: float | None = None, gib: float | None = None, **more: Any) -> list[float]:
        limits = Limits(latency, None if gib is None else gib * GIB)
        return speeds(recommend(tmp_path, CONFIGURATION, limits=limits, **more))

    assert asked() == [3.1] and asked(gib=5) == [2.3] and asked(gib=2.5) == [2.05]
    assert asked(latency=4.0) == [2.05, 2.3], "the least loss that is fast enough"
    assert asked(latency=4.0, gib=3.6) == [2.05, 2.3]
    assert asked(latency=3.0) == [3.1] and asked(latency=3.0, gib=5) == []
    assert asked(latency=4.0, speedup=2.2) == [2.3]
    found = recommend(tmp_path, CONFIGURATION, limits=Limits(4.0, 5 * GIB))
    first, second, *_ = lines(found)
    assert "50 steps, at most 4 s a call and at most 5 GiB within a loss of 0.02" in first
    images = store.baseline(CONFIGURATION).images_per_call
    assert f"3.9 s a call of {images} images, 2 GiB: T-Gate" in second
    for wrong in (Limits(latency=0.0), Limits(memory=math.nan)):
        with pytest.raises(InputError, match=r"--max-\w+ must be a number above 0"):
            recommend(tmp_path, CONFIGURATION, limits=wrong)


def test_only_these_accelerators(results: Path) -> None:
    assert speeds(recommend(results, CONFIGURATION, 2.0, accelerators=[("deepcache",)])) == [2.3]
    found = recommend(results, CONFIGURATION, 2.0, accelerators=[("tome",), ("tgate",)])
    assert found.status == "unmeasured" and not found.recipes
    assert "not searched with ToMe, but with DeepCache; T-Gate" in found.reason
    assert '\'accelerators=["DeepCache", "T-Gate", "ToMe"]\'' in found.reason, "loses none"


def test_what_is_refused_is_said(tmp_path: Path) -> None:
    cells = {("deepcache",): CACHED, ("tome",): []}
    store.write(tmp_path, CONFIGURATION, cells, refused={("tome",): "nothing to merge"})
    found = recommend(tmp_path, CONFIGURATION, 2.0)
    assert found.status == "met" and "ToMe: nothing to merge" in "\n".join(lines(found))
    found = recommend(tmp_path, CONFIGURATION, 2.0, accelerators=[("tome",)])
    assert (found.status, found.recipes) == ("nearest", [])


def test_what_is_there_and_what_would_measure_it(results: Path) -> None:
    found = recommend(results, Configuration("SDXL", "UniPCMultistepScheduler", 25), 2.0)
    assert found.status == "unmeasured"
    (text,) = lines(found)
    assert f"in {results} there is SD1.5_DDIM_50 on cpu" in text
    command = text.split("diffaccel run ")[1]
    assert command.startswith(str(results / devices.platform() / "search/SDXL_UniPCMultistep"))
    assert "'models=[\"SDXL\"]'" in command and "'steps=[25]'" in command
    empty = recommend(results.parent / "none", CONFIGURATION, 2.0)
    assert "there is nothing" in empty.reason


def test_what_was_searched_beside_another_baseline_is_not_known(results: Path) -> None:
    again = dataclasses.replace(store.baseline(CONFIGURATION), digest="another")
    write_record(results / "cpu/baseline" / f"{CONFIGURATION.slug}.json", again)
    found = recommend(results, CONFIGURATION, 2.0)
    assert found.status == "unmeasured" and "measured again since" in found.reason


def test_hardware_never_mixes(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(results, CONFIGURATION, {("deepcache",): CACHED[:1]}, platform="nvidia-x")
    monkeypatch.setattr(devices, "platform", lambda: "cpu")
    assert recommend(results, CONFIGURATION, 2.0).platform == "cpu"
    found = recommend(results, CONFIGURATION, 1.5, platform="nvidia-x")
    assert speeds(found) == [1.8] and found.recipes[0].environment.platform == "nvidia-x"
    assert recommend(results, CONFIGURATION, 2.0, platform="nvidia-y").status == "unmeasured"
    monkeypatch.setattr(devices, "platform", lambda: "nvidia-y")
    with pytest.raises(InputError, match=r"on cpu, nvidia-x, and this machine is 'nvidia-y'.*--pl"):
        recommend(results, CONFIGURATION, 2.0)


@pytest.mark.parametrize(("speedup", "max_loss"), [(0.5, 0.1), (float("nan"), 0.1), (2, 0), (2, 1)])
def test_numbers_out_of_bounds(results: Path, speedup: float, max_loss: float) -> None:
    with pytest.raises(InputError, match="must"):
        recommend(results, CONFIGURATION, speedup, max_loss)


@pytest.mark.parametrize(
    "model", ["SD1.5", "sd 1.5", "Stable Diffusion v1.5", "stable-diffusion-v1-5"]
)
@pytest.mark.parametrize("scheduler", ["DDIM", "ddim", "DDIMScheduler"])
def test_names_as_people_write_them(results: Path, model: str, scheduler: str) -> None:
    assert configuration_named(results, model, scheduler, 50) == CONFIGURATION


def test_a_model_of_the_users_own(results: Path) -> None:
    path = results / "cpu/search/my-fine-tune_DPM-Solver++_20.json"
    path.write_text("{}")
    mine = Configuration("my-fine-tune", "DPM-Solver++", 20)
    assert ("cpu", mine) in searched(results)
    assert configuration_named(results, "My fine tune", "dpm++", 20) == mine
    with pytest.raises(InputError, match="my-fine-tune"):
        configuration_named(results, "my-fin-tune", "dpm++", 20)


# The command


def ask(results: Path, *more: str) -> list[str]:
    words = ["--model", "SD 1.5", "--scheduler", "ddim", "--steps", "50", "--results", str(results)]
    return ["recommend", *words, *more]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (["--speedup", "2"], 0),
        (["--speedup", "2", "--accelerators", "deep cache"], 0),
        (["--speedup", "50"], 3),
        (["--max-latency", "4"], 0),
        (["--max-memory", "5"], 3),
        (["--speedup", "2", "--accelerators", "tome + deepcache"], 4),
        (["--speedup", "2", "--platform", "nvidia-x"], 4),
        (["--speedup", "2", "--accelerators", "magic"], 2),
        (["--speedup", "nan"], 2),
    ],
)
def test_the_exit_status_tells(results: Path, more: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as done:
        main(ask(results, *more))
    assert done.value.code == status


def test_json_and_a_recipe(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "recipe.json"
    with pytest.raises(SystemExit):
        main(ask(results, "--speedup", "50", "--out", str(out)))
    assert not out.exists(), "nothing is written that does not do what was asked"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(ask(results, "--speedup", "2", "--json", "--out", str(out)))
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "met" and told["configuration"]["model"] == "SD1.5"
    recipe = read_recipe(out)
    assert json.loads(out.read_text()) == with_checksum({"schema": SCHEMA, **told["recipes"][0]})
    assert (recipe.speedup, recipe.parameters) == (2.05, tgate(20))


def test_the_best_comes_as_a_script(results: Path) -> None:
    out = results / "fast.py"
    with pytest.raises(SystemExit):
        main(ask(results, "--speedup", "2", "--out", str(out)))
    source = out.read_text()
    compile(source, out.name, "exec")
    assert "gate_step=20" in source and "Measured: 2.05x" in source
    assert "Task: diffaccel recommend: SD1.5, DDIM, 50 steps, 2x, within a loss of 0.02" in source
    with pytest.raises(SystemExit):
        main(ask(results, "--speedup", "50", "--out", str(out)))
    assert out.read_text() == source, "nothing is written that does not do what was asked"


def test_fewer_steps_come_as_a_script_too(tmp_path: Path) -> None:
    fewer = measurement({"fewer_steps": {"steps": 20}}, 2.4, 0.001)
    results = tmp_path / "results"
    store.write(results, CONFIGURATION, {("deepcache",): CACHED, ("fewer_steps",): [fewer]})
    out = tmp_path / "fast.py"
    with pytest.raises(SystemExit):
        main(ask(results, "--speedup", "2", "--out", str(out)))
    assert "num_inference_steps=20" in out.read_text()


def test_a_recipe_says_how_many_images_a_call_made() -> None:
    made = store.baseline(CONFIGURATION)
    few = dataclasses.replace(made, prompts=made.prompts[:2])
    assert made.spec.batch_size > 2
    assert recipe_of(few, CACHED[0]).batch_size == 2


def test_asking_loads_nothing_heavy(results: Path) -> None:
    """torch alone takes seconds to load."""
    code = (
        "import sys, diffaccel.cli.main\n"
        "try: diffaccel.cli.main(sys.argv[1:])\n"
        "finally: print(*{'torch', 'diffusers', 'pandas', 'numpy', 'rich'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *ask(results, "--speedup", "2")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert "2.05x, loss +0.3%" in done.stdout
    assert done.stdout.splitlines()[-1] == ""
