"""The benchmark of the search: tables, replay, baselines of fewer steps. In data/ are real
measurements of one configuration, made on two CPU cores by the command that the file names."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import live, page, peers, results, spaces
from benchmarks.search.__main__ import DATA, DOCS, REPLAY, SESSIONS, main
from benchmarks.search.record import Counter, Opened, Plan, evaluate_all, record
from benchmarks.search.replay import (
    Ledger,
    Replay,
    _verdict,
    least_seconds,
    replay,
    searches,
    whole_seconds,
)
from benchmarks.search.tables import Table, collect, read, write
from benchmarks.search.truth import LIMIT, TARGETS, Truth, bound_regret
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine import devices
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import known_models
from diffaccel.plugins.space import Axis, flatten
from diffaccel.search import pareto
from diffaccel.search.decide import decide_cells
from diffaccel.search.estimates import Estimate
from diffaccel.search.requests import EvaluationRequest
from diffaccel.search.strategies.base import Observation, Problem
from diffaccel.store.jsonio import parse, read_json

FACTS = PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8))
TABLE = Path(__file__).parent / "data" / "mini-SD1.5_DDIM_20.parquet"
DEEPCACHE = Cell(Configuration("mini-SD1.5", "DDIM", 20), ("deepcache",))


@pytest.fixture(scope="module")
def table() -> Table:
    return read(TABLE)


@pytest.fixture(scope="module")
def noiseless(table: Table) -> Table:
    return table.but(noise=0.0, nugget=0.0)


# Which candidates a table holds.


@pytest.mark.parametrize("names", [("deepcache", "tome"), ("deepcache", "tgate", "tome")])
def test_a_thinned_space_is_a_product_of_allowed_points(names: Sequence[str]) -> None:
    members = combination(names)
    points = spaces.recorded(members, FACTS, 200)
    full = members.space(FACTS)
    assert 200 <= len(points) < 400
    assert all(full.forbids(point) is None for point in points)
    used = spaces.spanned(points, full.axes)
    product = (
        dict(zip((axis.name for axis in used.axes), values, strict=True))
        for values in itertools.product(*(axis.values for axis in used.axes))
    )
    left_out = [point for point in product if point not in points]
    assert all(full.forbids(point) is not None for point in left_out)
    assert list(used.points()) == points


def test_of_one_accelerator_the_declared_grid_is_recorded() -> None:
    members = combination(["tgate"])
    wanted = list(members.space(FACTS).points(grid=True))
    assert spaces.recorded(members, FACTS, 10_000) == wanted


@pytest.mark.parametrize("names", [("deepcache",), ("tgate",), ("tome",), ("deepcache", "tgate")])
def test_a_small_table_has_few_values_of_the_grid(names: Sequence[str]) -> None:
    members = combination(names)
    points = spaces.recorded(members, FACTS, 12, small=True)
    assert 5 <= len(points) < 25
    grid = {axis.name: axis.grid for axis in members.space(FACTS).axes}
    for axis in spaces.spanned(points, members.space(FACTS).axes).axes:
        assert set(axis.values) <= set(grid[axis.name])
        mildest_first = [value for value in grid[axis.name] if value in axis.values]
        known = [value for value in spaces.SMALL.get(axis.name, ()) if value in axis.values]
        assert known in ([], mildest_first)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_values_are_spread_with_both_ends(count: int) -> None:
    axis = Axis("x.a", (2, 3, 4, 5, 6, 7, 8, 9, 10), (2, 3, 4, 6, 10))
    chosen = spaces.spread(axis, count)
    assert len(set(chosen)) == count
    assert (chosen[0], chosen[-1]) == (2, 10)
    assert list(chosen) == sorted(chosen)
    # The middle in level is the middle of the declared grid.
    assert count != 3 or chosen[1] == 4


def test_points_far_apart_are_spread_over_the_space(table: Table) -> None:
    space = table.spaces[DEEPCACHE]
    points = list(space.points())
    chosen = spaces.far_apart(space, points, 4)
    levels = {space.levels(point) for point in chosen}
    assert levels == {(0, 0), (0, 1), (1, 0), (1, 1)}


# Tables.


def test_a_table_is_read_as_it_was_written(table: Table, tmp_path: Path) -> None:
    cells = {
        cell: [dataclasses.replace(rows[0], failure="it burst", scores=()), *rows[1:]]
        for cell, rows in table.rows.items()
    }
    failed = dataclasses.replace(table, rows=cells)
    write(failed, tmp_path / "t.parquet")
    again = read(tmp_path / "t.parquet")
    assert again.rows == failed.rows
    assert (again.baseline, again.provenance) == (failed.baseline, failed.provenance)
    assert sum(math.isinf(loss) for loss in again.losses.values()) == len(cells)


# What a replay costs and how it is judged.


def test_what_is_looked_up_costs_what_it_would_have(noiseless: Table) -> None:
    truth, ledger = Truth.of(noiseless, 0), Ledger()
    measurer = Replay(truth, 0, 8, {DEEPCACHE: ledger})
    some = noiseless.rows[DEEPCACHE][:3]
    plain = noiseless.provenance.plain
    own = [plain / row.speedup for row in some]
    evaluated = measurer.evaluate(
        [EvaluationRequest(DEEPCACHE, row.parameters, 16) for row in some]
    )
    assert [each.loss for each in evaluated] == [noiseless.losses[row.key] for row in some]
    assert ledger.seconds == pytest.approx(2 * sum(own))  # 16 prompts are 2 calls of 8
    timed = measurer.time_candidates([(DEEPCACHE, row.parameters) for row in some])
    assert [each.speedup for each in timed] == pytest.approx([row.speedup for row in some])
    assert ledger.seconds == pytest.approx(2 * sum(own) + 2 * (plain + sum(own)))


def test_the_clock_is_noisy_and_never_twice_the_same(table: Table) -> None:
    truth = Truth.of(table, 3)
    measurer = Replay(truth, 3, 8, {DEEPCACHE: Ledger()})
    row = table.rows[DEEPCACHE][5]
    speeds = [measurer.time_candidates([(DEEPCACHE, row.parameters)])[0].speedup for _ in range(40)]
    logs = np.log([speed / truth.speedups[row.key] for speed in speeds if speed])
    assert len(set(speeds)) == 40
    assert 0.3 * table.provenance.noise < logs.std() < 1.1 * table.provenance.noise


def test_true_speeds_are_as_far_off_as_the_timings_suggest(table: Table) -> None:
    nugget = table.but(nugget=0.02)
    off = [
        math.log(Truth.of(nugget, seed).speedups[row.key] / row.speedup)
        for seed in range(4)
        for row in nugget.rows[DEEPCACHE]
    ]
    assert np.std(off) == pytest.approx(0.02, rel=0.25)


def test_regret_is_the_share_of_the_best_speed_that_is_lacking(noiseless: Table) -> None:
    truth = Truth.of(noiseless, 0)
    good = [each for each in truth.good[DEEPCACHE] if each.loss < LIMIT]
    bad = next(each for each in truth.good[DEEPCACHE] if each.loss >= LIMIT)
    slow = min(good, key=lambda each: each.speedup)
    best = max(each.speedup for each in good)
    assert bound_regret(truth, DEEPCACHE, max(good, key=lambda each: each.speedup)) == 0
    assert bound_regret(truth, DEEPCACHE, slow) == pytest.approx(1 - slow.speedup / best)
    assert bound_regret(truth, DEEPCACHE, None) == pytest.approx(
        1 - 1 / best
    )  # the baseline pipeline
    deceived = dataclasses.replace(bad, loss=0.0)  # its few prompts looked fine
    assert bound_regret(truth, DEEPCACHE, deceived) == 1


def test_verdicts(noiseless: Table) -> None:
    truth = Truth.of(noiseless, 0)
    good = [each for each in truth.good[DEEPCACHE] if each.loss < LIMIT]
    best = max(good, key=lambda each: each.speedup)
    least = min(good, key=lambda each: each.loss)

    def verdict(known: list[Estimate], target: float) -> tuple[bool, float | None]:
        return _verdict(truth, DEEPCACHE, pareto.meet(known, target, LIMIT), target)

    assert verdict(good, 1.0) == (False, 0.0)
    assert verdict([best], 1.0) == (False, best.loss - least.loss)
    assert verdict([], best.speedup * 0.9) == (True, None)
    assert verdict([], best.speedup * 1.001) == (False, None)
    lucky = dataclasses.replace(best, speedup=best.speedup * 1.2)
    assert verdict([lucky], best.speedup * 1.1) == (True, None)
    # Too near to tell.
    assert verdict([lucky], best.speedup * 1.005) == (False, None)


def test_measuring_everything_with_a_perfect_clock_is_perfect(noiseless: Table) -> None:
    for each in replay(noiseless, "exhaustive", 0, 8):
        assert (each.regret, each.wrong, set(each.excess) - {0.0}) == (0, 0, set())
        assert each.evaluated == each.candidates
        assert each.seconds == pytest.approx(each.whole, rel=0.1)
        assert each.curve[-1] == (each.seconds, 0)


@pytest.mark.long
def test_no_search_takes_less_than_its_answers(noiseless: Table) -> None:
    for found in replay(noiseless, "frontier", 0, 8):
        cell = next(each for each in noiseless.rows if each.slug == found.cell)
        least = least_seconds(noiseless, cell, 8)
        assert 0 < least < found.seconds
    one = dataclasses.replace(noiseless, rows={DEEPCACHE: noiseless.rows[DEEPCACHE][:1]})
    truth = Truth.of(one, 0)
    answers = len([each for each in truth.good[DEEPCACHE] if each.loss < LIMIT])
    assert least_seconds(one, DEEPCACHE, 8) == answers * whole_seconds(truth, DEEPCACHE, 8)


def test_a_replay_depends_on_its_seed_alone(table: Table) -> None:
    first, again, other = (replay(table, "random", seed, 8) for seed in (0, 0, 1))
    assert first == again
    assert [each.seconds for each in first] != [each.seconds for each in other]


def test_the_default_strategy_costs_a_part_of_measuring_everything(table: Table) -> None:
    for each in replay(table, "frontier", 0, 8):
        assert 0 < each.seconds < 0.5 * each.whole
        assert each.evaluated < each.candidates / 2
        spent = [place for place, _ in each.curve]
        assert spent == sorted(spent)


# Rivals.


@pytest.mark.parametrize("name", [peer.name for peer in peers.PEERS if peer is not peers.Halving])
def test_a_fewer_steps_asks_for_allowed_points_once_and_ends(name: str, table: Table) -> None:
    space = table.spaces[DEEPCACHE]
    truth = {
        tuple(flatten(row.parameters).items()): (row.speedup, table.losses[row.key])
        for row in table.rows[DEEPCACHE]
    }
    by, problem = peers.strategy(name, 0), Problem(space, LIMIT, TARGETS)
    history: list[Observation] = []
    while points := by.ask(problem, history):
        for point in points:
            speedup, loss = truth[tuple(sorted(point.items()))]
            # What fails must not stop it.
            history.append(Observation(point, speedup, math.inf if loss > 0.2 else loss))
    asked = [tuple(one.point.items()) for one in history]
    assert len(set(asked)) == len(asked)
    ended = any(one.loss < LIMIT for one in history)
    share = {"exhaustive": 1}.get(name, peers.SHARE)
    assert ended if name == "first version" else len(asked) == round(share * len(truth))


def test_prompts_are_evaluated_a_few_at_a_time(noiseless: Table) -> None:
    ledger, row = Ledger(), noiseless.rows[DEEPCACHE][7]
    truth = Truth.of(noiseless, 0)
    measurer = Replay(truth, 0, 4, {DEEPCACHE: ledger}, (0.25, 0.5, 1.0))
    call = noiseless.provenance.plain / row.speedup
    for prompts, calls in ((4, 1), (8, 2), (16, 4)):
        (evaluated,) = measurer.evaluate([EvaluationRequest(DEEPCACHE, row.parameters, 16)])
        assert evaluated.scores["clip_score"] == list(row.scores[:prompts])
        assert ledger.seconds == pytest.approx(calls * call)
        assert (evaluated.failure is None) == (prompts == 16)
    assert ledger.evaluated == 1
    assert evaluated.loss == noiseless.losses[row.key]


def test_who_is_alone_times_all_that_it_evaluates(table: Table) -> None:
    for each in replay(table, "Optuna TPE alone", 0, 8):
        assert each.timed in (each.evaluated, each.evaluated + 1)  # the bound is timed again


def test_halving_answers_with_what_was_evaluated_as_a_whole(table: Table) -> None:
    """Two candidates a full one's price at first; a quarter of them comes through."""
    for each in replay(table, "halving", 0, 4):
        assert each.evaluated == min(
            each.candidates, 2 * max(peers.FEWEST, round(peers.SHARE * each.candidates))
        )
        assert each.timed <= each.evaluated // 4 + 1
        assert each.seconds < 0.6 * each.whole


# Summing up.


def test_the_mean_of_curves_is_that_of_steps() -> None:
    curves = [[(0.0, 1.0), (2.0, 0.5)], [(1.0, 0.0)]]
    assert results.mean_curve(curves) == [(0.0, 1.0), (1.0, 0.5), (2.0, 0.25)]


def test_a_share_is_the_same_in_every_cell(noiseless: Table) -> None:
    (known,) = results.summaries(replay(noiseless, "exhaustive", 0, 8))[:1]
    slow = dataclasses.replace(known, whole=100.0, curve=[(0.0, 0.4), (50.0, 0.0)])
    fast = dataclasses.replace(known, whole=10.0, curve=[(0.0, 0.0)])
    assert results.share_to(0.3, [slow, fast]) == 0.0
    assert results.share_to(0.1, [slow, fast]) == 0.5
    assert results.share_to(0.1, [dataclasses.replace(slow, curve=[(0.0, 0.4)]), fast]) is None


@pytest.mark.long
def test_figures_say_when_a_fewer_steps_is_as_good(noiseless: Table) -> None:
    outcomes = [
        outcome
        for name in ("exhaustive", "frontier", "random")
        for seed in range(2)
        for outcome in replay(noiseless, name, seed, 8)
    ]
    known = results.summaries(outcomes)
    found = page.figures(known, combined=False)
    assert list(found) == ["exhaustive", "frontier", "random"]
    there = {name: each.equal for name, each in found.items()}
    assert there["exhaustive"] is not None and there["frontier"] is not None
    assert max(there["frontier"], found["frontier"].mean) < there["exhaustive"]
    text = page.page(known, [noiseless], [], "here", 8)
    assert text == page.page(known, [noiseless], [], "here", 8)
    assert f"{found['random'].wrong:.1f}" in text


@pytest.mark.parametrize(
    "stored", sorted(DATA.glob(f"*/{REPLAY}")), ids=lambda path: path.parent.name
)
def test_the_page_is_made_from_the_data(stored: Path) -> None:
    value = read_json(stored)
    known = [parse(results.Summary, each, REPLAY) for each in value["summaries"]]
    measured = [read(path) for path in sorted(stored.parent.glob("*.parquet"))]
    data = f"benchmarks/search/{stored.parent.name}"
    decided = live.kept(stored.with_name(SESSIONS))
    text = page.page(known, measured, decided, data, value["batch"])
    assert (DOCS / "search-benchmark.md").read_text(encoding="utf-8") == text


def told(folder: Path, *arguments: str) -> int:
    """Exit status of the command."""
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--tables", str(folder / "tables")])
    return int(end.value.code or 0)


@pytest.mark.long
def test_a_strategy_is_replayed_again_beside_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "cpu"
    folder.mkdir(parents=True)
    shutil.copy(TABLE, folder)
    one = ("replay", "--seeds", "1", "--processes", "1", "--strategies")
    assert told(tmp_path, *one, "exhaustive", "random", "frontier") == 0
    first = (folder / REPLAY).read_text()
    assert told(tmp_path, *one, "random") == 0
    assert (folder / REPLAY).read_text() == first
    assert told(tmp_path, "report", "--docs", str(tmp_path)) == 0
    assert "| random |" in (tmp_path / "search-benchmark.md").read_text()
    assert (tmp_path / "search-benchmark.png").stat().st_size > 10_000
    # Of other tables nothing is known.
    shutil.copy(TABLE, folder / "another.parquet")
    assert told(tmp_path, *one, "random") == 0
    assert '"exhaustive"' not in (folder / REPLAY).read_text()


# What was decided live, here with a measurer that looks up.


def test_a_decided_cell_stands_beside_its_table(noiseless: Table, tmp_path: Path) -> None:
    cells, measurer = searches(Truth.of(noiseless, 0), "frontier", 0, 8)
    decide_cells(cells, measurer, TARGETS, LIMIT)
    before = live.answers(cells, noiseless)
    found, spread = live.compared(cells, before, measurer)
    assert spread == pytest.approx(0, abs=1e-9)
    for each, was in zip(found, before, strict=True):
        assert each.best == was.best  # with a perfect timing
        assert each.evaluated < each.candidates and each.seconds < each.whole
        assert (each.bound is None) == (each.best is None)
        assert each.regret < 0.05
    best = next(each for each in found if each.best and each.best.speedup > 2)
    assert best.bound and best.best
    slower = dataclasses.replace(best.bound, speedup=best.best.speedup / 2)
    assert dataclasses.replace(best, bound=slower).regret == pytest.approx(0.5)
    lossy = dataclasses.replace(best.bound, loss=LIMIT)
    assert dataclasses.replace(best, bound=lossy).regret == pytest.approx(1 - 1 / best.best.speedup)
    environment = noiseless.baseline.environment
    session = live.Session("a", found, spread, environment, "2026-11-21")
    path = tmp_path / SESSIONS
    for made in (session, dataclasses.replace(session, configuration="b"), session):
        live.keep(made, path)
    assert live.kept(path) == [session, dataclasses.replace(session, configuration="b")]
    assert f"| {best.cell} |" in page.live_part([session])


def test_cells_are_decided_where_their_tables_are_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables" / "another"
    folder.mkdir(parents=True)
    shutil.copy(TABLE, folder)
    assert told(tmp_path, "decide", "--work", str(tmp_path / "work")) == 2
    assert "the tables are of another, and this machine is " in capsys.readouterr().err


# Recording, on the smallest real pipeline.


@pytest.mark.long
def test_recording_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    cell = Cell(Configuration("mini-SD1.5", "DDIM", 2), ("deepcache",))
    spec = dataclasses.replace(known_models()["mini-SD1.5"], batch_size=2)
    options = MeasureOptions(prompts=2, pairs=1, max_pairs=1)
    plan = Plan.of(spec, options, [cell], tmp_path, 10, 3)
    claim = Counter(tmp_path / "next")
    evaluate_all([plan], [claim], 1, time.perf_counter())  # no time left
    assert len(plan.unevaluated()) == len(plan.candidates) > 3
    assert [claim(), claim()] == [0, 1]  # another process has these
    evaluate_all([plan], [claim], 1, math.inf)
    assert plan.unevaluated() == plan.candidates[:2]
    with pytest.raises(ValueError, match="2 candidates are not evaluated"):
        collect(plan, "")
    claim.path.unlink()
    evaluate_all([plan], [claim], 1, math.inf)
    assert plan.unevaluated() == []
    with devices.hold_device() as device, plan.known() as known:
        opened = Opened.of(plan, device)
        assert not opened.time_candidates(known, -math.inf)
        assert opened.time_candidates(known, math.inf)
    assert not any(plan.untimed().values())
    assert record([plan], 1, 0)  # nothing is left to do
    made = collect(plan, "as in the test")
    assert sum(row.measured is not None for row in made.rows[cell]) == 3
    assert all(len(row.scores) == 2 for row in made.rows[cell])
