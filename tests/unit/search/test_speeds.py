"""Speeds predicted from what each step is; what each step is, from what really runs."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec, combination
from diffaccel.plugins.accelerators.base import Accelerator, StepKind
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import SCHEDULERS
from diffaccel.plugins.space import Parameters, Value, nest
from diffaccel.registry import UnknownNameError
from diffaccel.search import speeds
from diffaccel.search import step_kinds as signatures
from diffaccel.search.gaussian import Floats
from diffaccel.search.speeds import SpeedModel
from diffaccel.search.step_kinds import signature
from tests.turns import in_turns

FACTS = PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8))
STEPS = 10


def cached(interval: int, branch: int) -> dict[str, dict[str, Value]]:
    return {"deepcache": {"cache_interval": interval, "cache_branch_id": branch}}


def gated(gate: int, sp: int = 1, fi: int = 1, warm_up: int = 0) -> dict[str, dict[str, Value]]:
    own = {"gate_step": gate, "sp_interval": sp, "fi_interval": fi, "warm_up": warm_up}
    return {"tgate": dict(own)}


def merged(ratio: float, down: int = 1, attn: bool = True) -> dict[str, dict[str, Value]]:
    mlp = not attn
    own = {"ratio": ratio, "max_downsample": down, "merge_attn": attn, "merge_mlp": mlp}
    return {"tome": dict(own)}


# ---- step kinds: what they say of a step is what runs --------------------------------------------


def step_kinds(parameters: Parameters, pipeline: PipelineSpec) -> list[tuple[StepKind | None, ...]]:
    """For each step, the step kinds of the candidate's accelerators in alphabetic order."""
    columns = []
    for name in sorted(parameters):
        others = {other: part for other, part in parameters.items() if other != name}
        columns.append(ACCELERATORS[name].step_kinds(parameters[name], others, pipeline))
    return list(zip(*columns, strict=True))


def work(
    pipe: Any, parameters: Parameters, steps: int
) -> list[tuple[tuple[str, tuple[int, ...]], ...]]:
    """For each step, which of the U-Net's layers run, on inputs of which shapes."""
    log: list[list[tuple[str, tuple[int, ...]]]] = []
    leaves = [
        (name, module)
        for name, module in pipe.unet.named_modules()
        if name and not any(module.children()) and "time" not in name and "add_" not in name
    ]

    def seen(name: str) -> Any:
        return lambda module, inputs, out: log[-1].append((name, tuple(inputs[0].shape)))

    hooks = [module.register_forward_hook(seen(name)) for name, module in leaves]
    # The first layer of all runs at every step.
    hooks.append(pipe.unet.conv_in.register_forward_pre_hook(lambda *_: log.append([])))
    try:
        with combination(list(parameters)).applied(pipe, parameters) as call:
            generator = torch.Generator().manual_seed(0)
            call("a", num_inference_steps=steps, generator=generator, output_type="latent")
    finally:
        for hook in hooks:
            hook.remove()
    return [tuple(sorted(step)) for step in log]


PARTS: dict[str, list[dict[str, dict[str, Value]]]] = {
    "deepcache": [cached(n, b) for n, b in ((2, 0), (3, 1), (4, 4), (9, 0), (10, 6))],
    "tgate": [gated(1, 1, 2), gated(4, 3), gated(6, 2, 3, 3), gated(10, 3), gated(9, 5, 1, 2)],
    "tome": [merged(0.5, 2), merged(0.25, 4), merged(0.75, 2), merged(0.5, 2, attn=False)],
    "deepcache+tgate": [
        cached(3, 0) | gated(5, 2, 2),
        cached(4, 4) | gated(7, 1, 3),
        cached(2, 1) | gated(1),
        cached(5, 0) | gated(10, 3),
    ],
    "deepcache+tgate+tome": [
        cached(3, 0) | gated(4) | merged(0.5, 2),
        cached(2, 4) | gated(7) | merged(0.5, 2),
    ],
}


@pytest.mark.parametrize(
    ("family", "scheduler", "cell"),
    in_turns(["SD1.5", "SDXL"], ["DDIM", "DPM-Solver++"], PARTS),
)
def test_steps_of_one_kind_run_the_same_layers(family: str, scheduler: str, cell: str) -> None:
    pipe = tiny.FAMILIES[family](0)
    pipe.scheduler = getattr(diffusers, SCHEDULERS[scheduler].diffusers).from_config(
        pipe.scheduler.config
    )
    pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=7.5)
    ran: dict[tuple[StepKind | None, ...], Any] = {}
    for parameters in PARTS[cell]:
        told, found = step_kinds(parameters, pipeline), work(pipe, parameters, STEPS)
        assert len(told) == len(found) == STEPS
        for step, (kind, layers) in enumerate(zip(told, found, strict=True)):
            assert ran.setdefault(kind, layers) == layers, (parameters, step, kind)
    if family == "SD1.5" and "+" not in cell:
        assert len(set(ran.values())) == len(ran), "step kinds that differ in name alone"


@pytest.mark.parametrize("name", sorted(ACCELERATORS))
@pytest.mark.parametrize("steps", [2, 20, 50])
def test_every_accelerator_says_what_it_makes_of_each_step(name: str, steps: int) -> None:
    pipeline = replace(FACTS, steps=steps, device="cuda")
    points = list(combination([name]).space(pipeline).points(grid=True))
    found = [step_kinds(nest(point), pipeline) for point in points]
    assert all(len(each) == steps for each in found)
    if steps > 2:  # candidates that do different things differ
        assert len({tuple(each) for each in found}) >= len(points) / 2
    for kind in {kind for each in found for step in each for kind in step} - {None}:
        assert 0 < kind.relative_cost <= 1.5 and kind.spread > 0


@pytest.mark.parametrize("rest", [0.02, 0.1, 0.25])
def test_two_timings_of_fewer_steps_tell_all_others(rest: float) -> None:
    """Nearly a straight line: ``rest`` is the share of the time that is not in the steps."""

    def fewer(steps: int) -> dict[str, dict[str, Value]]:
        return {"fewer_steps": {"steps": steps}}

    def speedup(steps: int) -> float:
        return 1 / (rest + (1 - rest) * steps / FACTS.steps)

    model = SpeedModel.fit([(fewer(steps), speedup(steps)) for steps in (2, 10)], FACTS)
    means, spreads = model.predict([fewer(steps) for steps in range(1, 20)])
    assert np.abs(means - np.log([speedup(steps) for steps in range(1, 20)])).max() < 0.02
    assert spreads.max() < 0.05


def test_what_says_nothing_of_its_steps_has_one_step_kind_that_its_values_place() -> None:
    tome = ACCELERATORS["tome"]
    a, b, far = (
        Accelerator.step_kinds(tome, merged(ratio)["tome"], {}, FACTS)
        for ratio in (0.5, 0.55, 0.75)
    )
    assert len(a) == FACTS.steps and len(set(a)) == 1 and a[0] is not None
    distances = [
        abs(np.subtract(a[0].levels, other[0].levels)).max() for other in (b, far) if other[0]
    ]
    assert 0 < distances[0] < distances[1] <= 1


# ---- the model: on made-up machines whose times follow from what runs ----------------------------


@dataclass(frozen=True)
class Machine:
    """Seconds of a call, from the blocks that run: nothing of it is in the model's own form.

    Args:
        levels: seconds of the network's blocks, outermost first.
        attention: share of each that is self-attention.
        halved: what half the batch leaves of the time.
        patching: seconds that T-Gate takes at each step.
        rest: seconds outside the steps.
        steps: number of steps.
    """

    levels: tuple[float, ...] = (0.35, 0.25, 0.2, 0.2)
    attention: float = 0.25
    halved: float = 0.55
    patching: float = 0.02
    rest: float = 1.5
    steps: int = 20

    def speedup(self, parameters: Parameters) -> float:
        time = self.rest
        for step in step_kinds(parameters, replace(FACTS, steps=self.steps)):
            labels = {kind.label: kind for kind in step if kind is not None}
            deep = labels["cached"].levels[0] / 5 if "cached" in labels else 1.0
            layers = 0.1 + sum(
                np.clip(deep * 4 - i, 0.2 * (i == 0), 1) * t for i, t in enumerate(self.levels)
            )
            reused = "reused" in labels or ("gated" in labels and labels["gated"].levels[0] == 1)
            attention = 0 if reused else self.attention
            if "merged" in labels:
                attention *= 1.2 - labels["merged"].levels[0]
            seconds = layers * (1 - self.attention + attention)
            time += seconds * (self.halved if "gated" in labels else 1)
            time += self.patching * ("tgate" in parameters)
        return float((self.rest + self.steps * (0.1 + sum(self.levels))) / time)


SINGLES = [
    *(cached(n, b) for n in (2, 3, 4, 5, 6, 8, 10) for b in (0, 1, 2, 3, 6, 9)),
    *(gated(g, sp, fi) for g in (2, 4, 6, 8, 10, 15) for sp in (1, 3, 5) for fi in (1, 3)),
    *(merged(r) for r in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
]
PAIRS = [
    cached(n, b) | gated(g, sp, fi)
    for n, b, g, sp, fi in itertools.product((2, 5, 10), (0, 3, 9), (4, 8, 15), (1, 3), (1, 3))
]


def timed(
    candidates: Sequence[Parameters], noise: float, seed: int = 0, machine: Machine = Machine()
) -> list[tuple[Parameters, float]]:
    rng = np.random.default_rng(seed)
    return [(s, machine.speedup(s) * float(np.exp(rng.normal(0, noise)))) for s in candidates]


def evaluated(candidates: Sequence[Parameters], n: int, seed: int = 0) -> list[Parameters]:
    return [candidates[i] for i in np.random.default_rng(seed).permutation(len(candidates))[:n]]


def errors(
    model: SpeedModel, candidates: Sequence[Parameters], machine: Machine = Machine()
) -> tuple[Floats, Floats]:
    """Errors of the predicted log-speedups, and their predicted standard deviations."""
    mean, std = model.predict(candidates)
    return mean - np.log([machine.speedup(parameters) for parameters in candidates]), std


MACHINES = {
    "as expected": Machine(),
    "waits for its host": Machine(halved=1.0, patching=0.15, rest=0.2),
    "slow decoder": Machine(rest=6.0, attention=0.5),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_few_timings_tell_the_others(machine: Machine) -> None:
    everything = [*SINGLES, *PAIRS]
    found = []
    for seed in range(4):
        model = SpeedModel.fit(timed(evaluated(everything, 16, seed), 0.01, seed, machine), FACTS)
        found.append(errors(model, everything, machine))
    error, std = np.hstack(found)
    assert np.median(abs(error)) < 0.03
    assert np.quantile(abs(error), 0.9) < 0.1
    assert (abs(error) < std).mean() > 0.6
    assert (abs(error) < 2 * std).mean() > 0.9


def test_before_any_timing_it_says_what_is_expected_and_how_little_is_known() -> None:
    everything = [*SINGLES, *PAIRS]
    error, std = errors(SpeedModel.fit([], FACTS), everything)
    assert (abs(error) < 2 * std).mean() > 0.9
    assert np.median(std) > 0.1
    known = errors(SpeedModel.fit(timed(everything[::8], 0.01), FACTS), everything)[1]
    assert np.median(known) < np.median(std) / 5
    mean, std = SpeedModel.fit([], FACTS).predict([{}])  # the baseline pipeline
    assert mean[0] == 0 and std[0] < 0.02


def test_timings_of_accelerators_alone_tell_of_them_together() -> None:
    alone = timed(evaluated(SINGLES[:42], 8) + evaluated(SINGLES[42:-7], 8), 0.01)
    prior, prior_std = errors(SpeedModel.fit([], FACTS), PAIRS)
    error, std = errors(SpeedModel.fit(alone, FACTS), PAIRS)
    assert np.median(abs(error)) < np.median(abs(prior)) / 2
    assert np.median(std) < np.median(prior_std) / 2


def test_an_outlier_wrecks_nothing() -> None:
    rows = timed(evaluated(PAIRS, 16), 0.01)
    good, _ = errors(SpeedModel.fit(rows, FACTS), PAIRS)
    rows[3] = (rows[3][0], rows[3][1] * 1.5)
    bad, _ = errors(SpeedModel.fit(rows, FACTS), PAIRS)
    assert np.median(abs(bad)) < np.median(abs(good)) + 0.02
    assert abs(bad).max() < 0.25


def test_the_clock_is_judged_by_the_timings() -> None:
    steady, shaky = (
        SpeedModel.fit(timed(evaluated(PAIRS, 30), noise), FACTS).noise for noise in (0.005, 0.08)
    )
    assert steady < 0.02 < 0.04 < shaky


def test_of_a_shaky_clock_less_is_believed() -> None:
    rows = timed(evaluated(PAIRS, 6), 0.01)
    steady, shaky = (
        SpeedModel.fit(rows, FACTS, timing_error=timing_error) for timing_error in (0.005, 0.1)
    )
    assert shaky.noise > 3 * steady.noise
    assert np.median(errors(shaky, PAIRS)[1]) > 1.2 * np.median(errors(steady, PAIRS)[1])


def test_timings_at_other_step_counts_help() -> None:
    there, here = Machine(steps=50), Machine()
    pipeline = replace(FACTS, steps=50)
    rows = [(*row, pipeline) for row in timed(evaluated(PAIRS, 24), 0.01, machine=there)]
    error, std = errors(SpeedModel.fit([], FACTS, rows), PAIRS, here)
    assert np.median(abs(error)) < 0.03
    assert (abs(error) < 2 * std).mean() > 0.9


def test_the_order_of_timings_does_not_matter_and_crashes_tell_nothing() -> None:
    rows = timed(evaluated(PAIRS, 12), 0.01)
    first = SpeedModel.fit(rows, FACTS).predict(PAIRS)
    again = SpeedModel.fit(rows, FACTS).predict(PAIRS)
    turned = SpeedModel.fit([*rows[::-1], (SINGLES[0], 0.0)], FACTS).predict(PAIRS)
    for a, b, c in zip(first, again, turned, strict=True):
        assert np.array_equal(a, b)
        assert np.allclose(a, c, atol=2e-3)


def test_candidates_that_run_the_same_cost_the_same() -> None:
    # From the gate on at every step: what fi_interval says matters, what sp_interval says does not.
    assert signature(gated(1, 2, 2), FACTS) == signature(gated(1, 5, 2), FACTS)
    assert signature(gated(1, 2, 2), FACTS) != signature(gated(1, 2, 3), FACTS)
    model = SpeedModel.fit([(gated(1, 2, 2), 1.7)], FACTS)
    mean, std = model.predict([gated(1, 2, 2), gated(1, 5, 2), gated(10)])
    assert mean[0] == mean[1] and std[0] == std[1] < std[2]


def test_repeated_timings_share_a_row_and_tell_what_each_would() -> None:
    """The covariance and the evidence of all timings, each in a row of its own, from its weight
    under Student's t distribution."""
    rows = timed(evaluated(PAIRS, 8) * 3 + evaluated(SINGLES, 4), 0.02)
    model = SpeedModel.fit(rows, FACTS)
    candidates, given = len(model.timed.signatures), model.timed
    assert candidates == 12 and len(rows) == 28
    member = np.equal.outer(given.row, range(candidates)).astype(float)
    for fit in model.fits:
        law = fit.factor.lower @ fit.factor.lower.T - np.diag(1 / fit.guess.precision)
        found = np.linalg.solve(law + np.diag(1 / fit.guess.precision), fit.guess.linear)
        assert np.allclose(fit.factor.inverse @ fit.guess.linear, found)
        common, costs, nuggets = fit.guess.weights
        means, variances = speeds._priors()
        logs, *_ = speeds._speedups(
            given.terms, means + variances * common, given.terms.mean + given.prior @ costs
        )
        off = given.y - member @ (logs + fit.nugget**2 * nuggets)
        precision = (speeds.FREEDOM + 1) / (speeds.FREEDOM + (off / fit.noise) ** 2)
        whole = member @ law @ member.T + np.diag(fit.noise**2 / precision)
        assert np.allclose(member.T @ np.linalg.inv(whole) @ member, fit.factor.inverse)
        volume = np.linalg.slogdet(whole)[1] + np.log(precision).sum()
        odd = np.log(fit.noise / speeds.TIMING_ERROR) ** 2 + np.log(fit.nugget / speeds.NUGGET) ** 2
        assert fit.evidence == pytest.approx(-fit.guess.cost - volume / 2 - odd / 2)


@pytest.mark.parametrize(("count", "noise"), [(6, 0.01), (40, 0.05), (120, 0.005), (120, 0.1)])
def test_noises_that_are_not_tried_would_not_count(
    count: int, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    fit = speeds._fit

    def noting(timed: Any, noise: float, *rest: Any) -> Any:
        tried.append(noise)
        return fit(timed, noise, *rest)

    monkeypatch.setattr(speeds, "_fit", noting)
    rows = timed((SINGLES + PAIRS)[:count], noise)
    found = SpeedModel.fit(rows, FACTS).predict(PAIRS)
    fewer = len(tried)
    monkeypatch.setattr(speeds, "HOPELESS", math.inf)
    every = SpeedModel.fit(rows, FACTS).predict(PAIRS)
    assert np.array_equal(found, every)
    if noise == 0.1:
        assert fewer < len(tried) - fewer


def test_what_cannot_be_predicted() -> None:
    model = SpeedModel.fit([], FACTS)
    assert [array.shape for array in model.predict([])] == [(0,), (0,)]
    with pytest.raises(UnknownNameError, match="did you mean 'tome'"):
        model.predict([{"tom": {"ratio": 0.5}}])


def test_an_accelerator_that_says_nothing_of_its_steps_is_learnt_too(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(type(ACCELERATORS["tome"]), "step_kinds", Accelerator.step_kinds)
    truth = {ratio: 1.1 - 0.5 * ratio for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}
    rows = [(merged(ratio), 1 / time) for ratio, time in truth.items() if ratio not in (0.3, 0.6)]
    mean, std = SpeedModel.fit(rows, FACTS).predict([merged(0.3), merged(0.6)])
    assert np.allclose(mean, -np.log([truth[0.3], truth[0.6]]), atol=0.03)
    assert (std < 0.1).all()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Step kinds are remembered: not those of a test."""
    signatures._signature.cache_clear()
    yield
    signatures._signature.cache_clear()


def test_no_torch_is_needed() -> None:
    code = "import sys, diffaccel.search.speeds as s; "
    code += "s.SpeedModel.fit([], s.PipelineSpec('P', 2, (), ()))"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
