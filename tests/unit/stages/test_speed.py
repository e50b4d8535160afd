"""Timing untrained models: what is counted, what is chosen, and what becomes of a failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffaccel.errors import InputError
from diffaccel.evaluation.calls import Bench, Candidate
from diffaccel.evaluation.flops import call_flops, flops, matmul_ceiling
from diffaccel.evaluation.records import SpeedRow
from diffaccel.evaluation.timing import time_candidates
from diffaccel.experiment.config import ConfigError, load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.resolve import model_spec
from diffaccel.machine.devices import Device
from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.space import flatten
from diffaccel.stages import speed
from diffaccel.store.journal import Journal

BARE = {"name": "bare", "family": "SD1.5", "untrained": True, "batch_size": 2}
OPTIONS = MeasureOptions(prompts=2, pairs=2, max_pairs=2)


def bench(pipe: Any, steps: int = 4) -> Bench:
    spec = replace(model_spec(load({"models": [BARE]}).models[0]), height=32, width=32)
    prompts = ["a red square", "a blue ring"]
    return Bench(
        pipe, Configuration("bare", "DDIM", steps), spec, OPTIONS, prompts, Device("cpu"), {}
    )


# Work


@pytest.mark.parametrize(
    ("family", "teraflops"),
    [
        ("SD1.5", 1.607),
        ("SD2.1", 4.298),
        pytest.param("SDXL", 13.522, marks=pytest.mark.long),
    ],
)
def test_a_step_of_a_full_size_model_is_counted(family: str, teraflops: float) -> None:
    """Of one image with guidance; figures read off the released models."""
    spec = model_spec(load({"models": [BARE | {"family": family}]}).models[0])
    unet = FAMILIES[family].load(spec, "float16", "meta").unet
    kind = {"device": "meta", "dtype": torch.float16}
    words = torch.empty(2, 77, unet.config.cross_attention_dim, **kind)
    latents = torch.empty(2, 4, spec.height // 8, spec.width // 8, **kind)
    more = {}
    if family == "SDXL":
        ids = {"text_embeds": torch.empty(2, 1280, **kind), "time_ids": torch.empty(2, 6, **kind)}
        more["added_cond_kwargs"] = ids
    counted = flops(lambda: unet(latents, torch.tensor(1, device="meta"), words, **more))
    assert counted / 1e12 == pytest.approx(teraflops, abs=0.0005)


def test_fused_attention_on_a_cpu_is_counted() -> None:
    query, key = torch.randn(2, 3, 8, 4), torch.randn(2, 3, 5, 4)
    counted = flops(lambda: nn.functional.scaled_dot_product_attention(query, key, key))
    assert counted == 2 * 2 * 3 * (8 * 5 * 4 + 8 * 5 * 4)


@pytest.mark.long
def test_the_work_of_many_steps_is_told_by_few() -> None:
    own = bench(tiny.sd15(), steps=5)
    whole = flops(lambda: own.call(own.baseline, slice(0, 2)))
    assert call_flops(own) == whole
    twice = replace(own, configuration=replace(own.configuration, steps=10))
    assert 1.5 * whole < call_flops(twice) < 2 * whole


def test_the_ceiling_says_what_reached_it() -> None:
    found = matmul_ceiling("cpu", "float32")
    assert found.tflops > 0 and found.size in (256, 512) and found.dtype == "float32"


# What is timed


@pytest.mark.parametrize("name", ACCELERATORS)
def test_candidates_are_mild_middle_and_aggressive(name: str) -> None:
    pipeline = PipelineSpec("StableDiffusionPipeline", 50, (3, 3, 3, 2), (1, 2, 4, 8))
    space = combination([name]).space(pipeline)
    found = [flatten(parameters) for parameters in speed.representative(space)]
    levels = [sum(space.coarse().levels(point)) for point in found]
    assert levels == sorted(levels) and len(set(levels)) == len(found)
    assert all(space.forbids(point) is None for point in found)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"deepcash": {}}, "speed.candidates.0: unknown accelerator 'deepcash': did you mean"),
        (
            {"deepcache": {"cache_interval": 0, "cache_branch_id": 0}},
            "speed.candidates.0: DeepCache",
        ),
        ({"deepcache": {"interval": 3}}, "speed.candidates.0: DeepCache"),
        ({}, "speed.candidates.0: need different accelerators, one at least"),
    ],
)
def test_a_wrong_parameters_is_said_before_any_job(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"models": [BARE], "speed": {"candidates": [parameters]}})
    assert says in str(caught.value)


def test_an_untrained_model_is_only_timed() -> None:
    experiment = Experiment(load({"models": [BARE, "mini-SD1.5"], "steps": [20, 25]}))
    assert set(experiment.speeds) == {
        f"bare_{scheduler}_{steps}" for scheduler in ("DDIM", "DPM-Solver++") for steps in (20, 25)
    }
    assert {cell.configuration.model for cell in experiment.cells.values()} == {"mini-SD1.5"}
    named = [task.cell.configuration.model for task in experiment.tasks.values() if task.cell]
    assert named and set(named) == {"mini-SD1.5"}
    assert not Experiment(load({"models": [BARE]})).tasks


def test_a_users_task_for_an_untrained_model_is_told_so(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.txt"
    tasks.write_text(
        "Generate a bare pipeline using the DDIM sampler with 20 steps, accelerated by DeepCache "
        "with 2x speedup\n"
    )
    experiment = Experiment(load({"models": [BARE], "tasks_file": str(tasks)}))
    (task,) = experiment.tasks.values()
    assert task.cell is None and not experiment.cells
    assert "bare is untrained here: random weights generate noise" in str(task.problem)
    assert "leave out `untrained: true`" in str(task.problem)


def test_a_trained_model_is_not_timed_alone(tmp_path: Path) -> None:
    spec = replace(model_spec("mini-SD1.5"), name="trained")
    order = speed.Order([], [("deepcache",)])
    with pytest.raises(InputError, match="'trained' is trained: its frontier has its speedups"):
        speed.run(Configuration("trained", "DDIM", 4), spec, OPTIONS, order, "cpu", tmp_path / "j")


# Failures


def failing(error: Exception) -> Callable[..., Any]:
    def pipe(*prompts: Any, **arguments: Any) -> Any:
        raise error

    return pipe


@pytest.mark.long
def test_any_failure_is_a_row() -> None:
    """The others of the same rounds are timed all the same, whatever the error says of itself."""
    own = bench(tiny.sd15())

    def rows(error: Exception) -> list[SpeedRow]:
        @contextlib.contextmanager
        def applied() -> Iterator[Callable[..., Any]]:
            yield failing(error)

        good = Candidate(speed.BASELINE, own.baseline)
        return time_candidates(own, [good, Candidate({"bad": {}}, applied), good])

    before, bad, after = rows(torch.OutOfMemoryError("CUDA out of memory. 2 GiB.\nMore."))
    assert bad.failure == "out of memory: CUDA out of memory. 2 GiB."
    assert bad.timing is None and bad.speedup is None and bad.first_call is None
    assert before.timing is not None and after.timing is not None
    assert before.timing.baseline == after.timing.baseline
    assert rows(RuntimeError("shapes differ"))[1].failure == "RuntimeError: shapes differ"
    said = "CUDA error: operation not permitted when stream is capturing"
    assert rows(RuntimeError(said))[1].failure == f"RuntimeError: {said}"


def test_what_was_timed_stays_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    good = {"deepcache": {"cache_interval": 2, "cache_branch_id": 0}}
    late = {"deepcache": {"cache_interval": 9, "cache_branch_id": 0}}  # there are 4 steps
    journal = Journal(tmp_path / "j", "d", SpeedRow)
    own, order = bench(tiny.sd15()), speed.Order([good, late], [])
    first = speed._rows(own, order, journal)
    assert [row.failure is None for row in first] == [True, True, False]
    assert "cache_interval 9" in str(first[2].failure)
    second = speed._rows(own, order, journal)
    assert second[:2] == first[:2]
    assert len(journal.rows()) == 3 + 1


def test_a_baseline_pipeline_that_fails_ends_the_job(tmp_path: Path) -> None:
    own = bench(failing(torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(InputError, match=r"out of memory.*Lower batch_size \(now 2\)"):
        speed._baseline(own, Journal(tmp_path / "j", "d", SpeedRow))


def test_the_images_of_untrained_models_are_not_scored() -> None:
    from diffaccel.evaluation import bench as benches

    spec = model_spec(
        load({"models": [BARE | {"source": "resources/models/mini-SD1.5"}]}).models[0]
    )
    assert (
        benches.open_bench(Configuration("bare", "DDIM", 4), spec, OPTIONS, Device("cpu")).metrics
        == {}
    )
