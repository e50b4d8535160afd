"""Made-up cells on which a strategy can be judged in seconds, without a model.

``python -m diffaccel.search.strategies._rehearsal [strategy]`` prints the table of
docs/explanation/searching.md.

Speeds follow from what the parameters do: DeepCache recomputes one step in ``cache_interval`` and
part of the others, T-Gate halves the batch after ``gate_step``, ToMe trades attention against
overhead. Losses grow convexly. Scales, shapes and roughness are drawn from a seed around what
real models showed; the roughness belongs to the point, so measuring it twice gives the same.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffaccel.plugins.space import Axis, Point, Space
from diffaccel.search import pareto
from diffaccel.search.strategies.base import Observation, Problem, Strategy

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]
Effect = Callable[[Columns], tuple[Floats, Floats]]
"""Values of each axis to (share of the baseline's time, loss before roughness)."""

LIMIT = 0.02
LARGEST = 10_000
SEEDS = range(100, 120)
TARGETS = (1.2, 1.5, 2.0)


@dataclass(frozen=True)
class Cell:
    """A made-up cell: what measuring any point of a space would give."""

    space: Space
    effect: Effect
    speed_noise: float
    loss_noise: float
    seed: int

    def outcome(self, columns: Columns) -> tuple[Floats, Floats]:
        """Speedups and losses that measuring gives, roughness and all."""
        time, loss = self.effect(columns)
        speed_z, loss_z = _roughness(columns, self.seed)
        return np.exp(self.speed_noise * speed_z) / time, loss + self.loss_noise * loss_z

    def measure(self, point: Point) -> Observation:
        columns = {name: np.array([value], dtype=np.float64) for name, value in point.items()}
        speeds, losses = self.outcome(columns)
        return Observation(point, float(speeds[0]), float(losses[0]))

    def everything(self) -> list[Observation]:
        """What measuring the whole space gives, without the points' names."""
        values = [np.array(axis.values, dtype=np.float64) for axis in self.space.axes]
        mesh = np.meshgrid(*values, indexing="ij")
        columns = {
            axis.name: column.ravel() for axis, column in zip(self.space.axes, mesh, strict=True)
        }
        allowed = ~_too_late(columns)
        speeds, losses = self.outcome(columns)
        pairs = zip(speeds[allowed].tolist(), losses[allowed].tolist(), strict=True)
        return [Observation({}, speedup, loss) for speedup, loss in pairs]

    def on_grid(self) -> Cell:
        """The same cell where only the declared grid may be searched."""
        axes = tuple(replace(axis, values=axis.grid) for axis in self.space.axes)
        return replace(self, space=replace(self.space, axes=axes))


def _roughness(columns: Columns, seed: int) -> tuple[Floats, Floats]:
    """Two standard normal numbers for each point that depend on nothing but it and the seed."""
    first = next(iter(columns.values()))
    state = np.full(first.shape, seed * 7919 + 1, dtype=np.uint64)
    for column in columns.values():
        state = _scramble(state + np.round(column * 1000).astype(np.uint64))
    u = (_scramble(state + np.uint64(1)) >> np.uint64(11)) / 2.0**53
    v = (_scramble(state + np.uint64(2)) >> np.uint64(11)) / 2.0**53
    radius = np.sqrt(-2 * np.log(np.maximum(u, 1e-12)))
    return radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def deepcache(rng: np.random.Generator, steps: int) -> tuple[tuple[Axis, ...], Effect]:
    intervals = tuple(range(2, steps + 1))
    grid = tuple(n for n in (2, 3, 4, 5, 6, 7, 8, 10, 12) if n <= steps)
    axes = (
        Axis("deepcache.cache_interval", intervals, grid),
        Axis("deepcache.cache_branch_id", tuple(range(10, -1, -1)), (8, 6, 4, 2, 0)),
    )
    other = rng.uniform(0.02, 0.12)  # text encoder, VAE, scheduler: never accelerated
    shallow = rng.uniform(0.08, 0.25)
    knee = rng.uniform(0.4, 1.2)
    scale = 10 ** rng.uniform(-2.1, -0.5)
    power, by_branch = rng.uniform(1.2, 2.5), rng.uniform(0.8, 2.0)

    def effect(at: Columns) -> tuple[Floats, Floats]:
        depth = at["deepcache.cache_branch_id"] / 11
        partial = shallow + (1 - shallow) * depth**knee
        interval = at["deepcache.cache_interval"]
        full = np.ceil(steps / interval) / steps
        time = other + (1 - other) * (full + (1 - full) * partial)
        loss = scale * ((1 - full) / 0.9) * (interval / 10) ** power * (1 - partial) ** by_branch
        return time, loss

    return axes, effect


def tgate(rng: np.random.Generator, steps: int) -> tuple[tuple[Axis, ...], Effect]:
    axes = (
        Axis(
            "tgate.gate_step",
            tuple(range(steps - 1, 0, -1)),
            tuple(round(steps * share) for share in (0.8, 0.6, 0.5, 0.4, 0.25, 0.1)),
        ),
        Axis("tgate.sp_interval", (1, 2, 3, 4, 5), (1, 3, 5)),
        Axis("tgate.fi_interval", (1, 2, 3), (1,)),
        Axis("tgate.warm_up", (5, 4, 3, 2, 1), (4, 2)),
    )
    after = rng.uniform(0.42, 0.85)
    sparse = rng.uniform(0.0, 0.08)
    scale, power = 10 ** rng.uniform(-2.1, -0.5), rng.uniform(1.5, 5.0)
    by_sparse = 10 ** rng.uniform(-4, -2)

    def effect(at: Columns) -> tuple[Floats, Floats]:
        gate = at["tgate.gate_step"] / steps
        skipped = 1 - 1 / at["tgate.sp_interval"]
        early = np.maximum(gate - at["tgate.warm_up"] / steps, 0)
        time = gate + (1 - gate) * after - sparse * skipped * early
        time = time - 0.01 * (1 - 1 / at["tgate.fi_interval"]) * (1 - gate)
        loss = scale * (1 - gate) ** power + by_sparse * skipped * early
        return time, loss + 0.002 * (1 - 1 / at["tgate.fi_interval"])

    return axes, effect


def tome(rng: np.random.Generator, steps: int) -> tuple[tuple[Axis, ...], Effect]:
    ratios = tuple(round(0.05 * i, 2) for i in range(1, 16))
    axes = (
        Axis("tome.ratio", ratios, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75)),
        Axis("tome.max_downsample", (1, 2, 4, 8), (1, 2, 4)),
        Axis("tome.merge_crossattn", (False, True), (False, True)),
    )
    overhead, gain = rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.25)
    scale, power = 10 ** rng.uniform(-2.3, -1.0), rng.uniform(1.0, 2.5)

    def effect(at: Columns) -> tuple[Floats, Floats]:
        ratio, depth = at["tome.ratio"], 1 + 0.1 * np.log2(at["tome.max_downsample"])
        time = 1 + overhead * depth - gain * ratio * depth
        bump = 0.4 * np.sin(9 * ratio) * (ratio > 0.45)  # its randomness: not monotone
        crossed = 1 + 0.3 * at["tome.merge_crossattn"]
        return time, scale * crossed * depth * (ratio**power + 0.15 * bump)

    return axes, effect


PARTS = {"deepcache": deepcache, "tgate": tgate, "tome": tome}


def _too_late(at: Mapping[str, Any]) -> Any:
    """Whether T-Gate would still warm up when it gates; for one point or for columns."""
    if "tgate.gate_step" not in at:
        return at[next(iter(at))] != at[next(iter(at))]
    return at["tgate.gate_step"] <= at["tgate.warm_up"]


def _forbids(point: Point) -> str | None:
    return "warm_up must come before gate_step" if _too_late(point) else None


def cell(names: str, seed: int) -> Cell:
    """A cell of ``deepcache``, ``tgate``, ``tome`` or several joined by ``+``."""
    rng = np.random.default_rng([seed, *names.encode()])
    steps = int(rng.choice([20, 25, 50]))
    parts = [PARTS[name](rng, steps) for name in names.split("+")]
    together = rng.uniform(0.8, 1.3)

    def effect(at: Columns) -> tuple[Floats, Floats]:
        times, losses = zip(*(part(at) for _, part in parts), strict=True)
        loss = np.sum(losses, axis=0) * (together if len(parts) > 1 else 1.0)
        return np.prod(times, axis=0), loss

    axes = tuple(axis for part, _ in parts for axis in part)
    return Cell(
        Space(axes, _forbids),
        effect,
        speed_noise=rng.uniform(0.002, 0.02),
        loss_noise=10 ** rng.uniform(-4, -2.5),
        seed=seed,
    )


def _twisted(twist: Callable[[Floats, Floats, Floats], tuple[Floats, Floats]], seed: int) -> Cell:
    """A DeepCache cell whose (time, loss) is twisted; the twist also gets the interval."""
    base = cell("deepcache", seed)

    def effect(at: Columns) -> tuple[Floats, Floats]:
        time, loss = base.effect(at)
        return twist(time, loss, at["deepcache.cache_interval"])

    return replace(base, effect=effect)


def infeasible(seed: int) -> Cell:
    return _twisted(lambda time, loss, n: (time, loss + 0.15), seed)


def feasible(seed: int) -> Cell:
    return _twisted(lambda time, loss, n: (time, loss * 0 + 0.002), seed)


def useless(seed: int) -> Cell:
    return _twisted(lambda time, loss, n: (time * 0 + 1.05, loss), seed)


def plateaus(seed: int) -> Cell:
    return _twisted(lambda t, loss, n: (np.ceil(t * 5) / 5, np.floor(loss / 0.015) * 0.015), seed)


def wavy(seed: int) -> Cell:
    return _twisted(lambda t, loss, n: (t * (1 + 0.04 * (n % 2)), loss + 0.008 * np.sin(n)), seed)


def crashing(seed: int) -> Cell:
    return _twisted(lambda t, loss, n: (t, np.where(n > 9, np.inf, loss)), seed)


Family = Callable[[int], Cell]


def _named(names: str) -> Family:
    return lambda seed: cell(names, seed)


REALISTIC: dict[str, Family] = {
    names: _named(names)
    for names in (*PARTS, "deepcache+tome", "deepcache+tgate", "deepcache+tgate+tome")
}
HOSTILE: dict[str, Family] = {
    f.__name__: f for f in (infeasible, feasible, useless, plateaus, wavy, crashing)
}


def search(strategy: Strategy, problem: Problem, made_up: Cell) -> list[Observation]:
    """The whole search, as a runner would drive it."""
    history: list[Observation] = []
    while asked := strategy.ask(problem, history):
        history += [made_up.measure(point) for point in asked]
    return history


@dataclass(frozen=True)
class Trial:
    """How a search compares with having measured every point of its space.

    Args:
        measured: number of measurements.
        regret: 1 - bound found / bound of all points; 0 where no point is within the limit.
        smooth_regret: the same against the bound of a cell without roughness: whoever measures
            many points also finds the luckiest of them.
        open: share of targets that some point meets and the search left open.
        excess: mean of (loss found - least loss) / limit over the targets met.
    """

    measured: int
    regret: float
    smooth_regret: float
    open: float
    excess: float


def trial(strategy: Strategy, made_up: Cell) -> Trial:
    found = search(strategy, Problem(made_up.space, LIMIT, TARGETS), made_up)
    table = made_up.everything()
    best = pareto.bound(found, LIMIT)
    speedup = best.speedup if best else 0.0
    smooth = replace(made_up, speed_noise=0.0, loss_noise=0.0).everything()
    missed, excesses = [], []
    for target in TARGETS:
        least, got = pareto.meet(table, target, LIMIT), pareto.meet(found, target, LIMIT)
        if least is not None:
            missed.append(got is None)
            if got is not None:
                excesses.append((got.loss - max(least.loss, 0)) / LIMIT)
    mean = float(np.mean(excesses)) if excesses else 0.0
    return Trial(
        measured=len(found),
        regret=_regret(speedup, table),
        smooth_regret=_regret(speedup, smooth),
        open=float(np.mean(missed)) if missed else 0.0,
        excess=mean,
    )


def _regret(speedup: float, table: list[Observation]) -> float:
    best = pareto.bound(table, LIMIT)
    return 0.0 if best is None else 1 - speedup / best.speedup


def report(strategy: Strategy, seeds: range, *, grid: bool) -> list[str]:
    """A Markdown table, one line a family."""
    lines = [
        "| cell | bound within 2% | and without roughness | worst | measured: median | most "
        "| targets left open | excess loss / limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, family in (REALISTIC | HOSTILE).items():
        if math.prod(len(axis.values) for axis in family(0).space.axes) > LARGEST and not grid:
            continue  # too large to know the best point
        cells = [family(seed).on_grid() if grid else family(seed) for seed in seeds]
        trials = [trial(strategy, one) for one in cells]
        counts = [t.measured for t in trials]
        lines.append(
            f"| {name} | {np.mean([t.regret <= 0.02 for t in trials]):.0%} "
            f"| {np.mean([t.smooth_regret <= 0.02 for t in trials]):.0%} "
            f"| {max(t.regret for t in trials):.1%} | {np.median(counts):g} | {max(counts)} "
            f"| {np.mean([t.open for t in trials]):.1%} "
            f"| {np.mean([t.excess for t in trials]):.2f} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    from diffaccel.search.strategies import STRATEGIES

    strategy = STRATEGIES[arguments[0] if arguments else "frontier"]
    for grid in (True, False):
        print(f"{strategy.name}, {'declared grid' if grid else 'full space'}")
        print("\n".join(report(strategy, SEEDS, grid=grid)))


if __name__ == "__main__":
    main(sys.argv[1:])
