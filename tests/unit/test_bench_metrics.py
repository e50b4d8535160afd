"""Which metric tells a broken scene: areas, thresholds, prompts, and searches with limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metrics import page, searching, verdicts
from benchmarks.metrics.areas import Pooled, area, best, breaking, safe, thresholds
from benchmarks.metrics.scored import TRUTH, Candidate, of_table
from benchmarks.metrics.thresholds_part import presets, together
from benchmarks.search.replay import replay
from benchmarks.search.tables import Table, read, write
from benchmarks.search.truth import LIMIT, Asked, Truth
from diffaccel.evaluation.sequential import InterimAnalyses
from diffaccel.experiment.limits import PRESETS, read_limit, read_limits

TABLE = Path(__file__).parent / "data" / "mini-SD1.5_DDIM_20.parquet"
SAME = read_limits(PRESETS["same"])
ASKED = Asked(limits=SAME)
COUNT = 20


def candidate(broken: int, psnr: float, score: float = 80.0) -> Candidate:
    """So many of the first scenes broke: their PSNR is 10 dB below that of the others. The last
    image was wrong before."""
    right = [0.0] * broken + [1.0] * (COUNT - broken - 1) + [0.0]
    own = {
        TRUTH: right,
        "clip_score": [score] * COUNT,
        "psnr": [psnr - 10 * (each == 0) for each in right],
        "ssim": [0.95] * COUNT,
    }
    baseline = {TRUTH: [1.0] * (COUNT - 1) + [0.0], "clip_score": [80.0] * COUNT}
    return Candidate("tome", {}, baseline, own, [f"prompt {i}" for i in range(COUNT)])


@pytest.fixture(scope="module")
def table() -> Table:
    """A real one, whose images have PSNR and SSIM about their means."""
    known = searching.of_means(read(TABLE))
    random = np.random.default_rng(0)

    def noisy(values: Sequence[float], spread: float) -> tuple[float, ...]:
        off = random.normal(0, spread, len(values))
        return tuple(float(np.float32(v)) for v in np.asarray(values) + off - off.mean())

    rows = {
        cell: [
            dataclasses.replace(
                row,
                images={
                    name: noisy(each, 3.0 if name == "psnr" else 0.02)
                    for name, each in row.images.items()
                },
            )
            for row in each
        ]
        for cell, each in known.rows.items()
    }
    return dataclasses.replace(known, rows=rows)


# Areas.


def test_an_area_counts_pairs() -> None:
    values, broken = [2.0, 3.0, 1.0, 2.0], [True, True, False, False]
    assert area(values, broken) == pytest.approx(0.875)
    assert area([-value for value in values], broken) == pytest.approx(0.125)
    assert math.isnan(area(values, [False] * 4))


def test_only_what_was_right_can_break() -> None:
    known = candidate(5, 30.0)
    assert known.share == pytest.approx(5 / 19)
    pooled = Pooled.of([known, candidate(0, 40.0)], "psnr")
    assert (len(pooled.values), int(pooled.broken.sum())) == (38, 5)
    assert pooled.area == 1.0


def test_the_interval_of_an_area_is_over_prompts() -> None:
    random = np.random.default_rng(1)
    prompts = np.repeat(np.arange(12), 8)
    broken = random.random(12) < 0.5
    values = random.normal(0, 0.1, 96) + np.repeat(random.normal(0, 1, 12) + broken, 8)
    pooled = Pooled(values, np.repeat(broken, 8), prompts)
    low, high = pooled.interval(200)
    assert low < pooled.area < high
    assert (low, high) == pooled.interval(200)
    # As if all images were of prompts of their own: too sure.
    alone = Pooled(values, np.repeat(broken, 8), np.arange(96)).interval(200)
    assert alone[1] - alone[0] < high - low


def test_candidates_are_told_apart_by_a_threshold() -> None:
    known = [candidate(0, 40.0), candidate(1, 34.0), candidate(4, 33.0), candidate(9, 25.0)]
    assert breaking(known, 0.02).tolist() == [False, True, True, True]
    assert breaking(known, 0.06).tolist() == [False, False, True, True]
    found = thresholds(known, "psnr", 0.06)
    for chosen in (best(found), safe(found)):
        assert chosen is not None and (chosen.kept, chosen.passed) == (1.0, 0.0)
        assert chosen.value == pytest.approx(known[1].mean("psnr"))
    blind = thresholds(known, "ssim", 0.06)
    assert safe(blind) is None
    assert [(each.kept, each.passed) for each in blind] == [(1.0, 1.0)]


def test_a_preset_holds_all_of_its_limits() -> None:
    assert (presets("psnr"), presets("clip_score"), presets("dists")) == (
        "at least 30",
        "2% loss",
        None,
    )
    good, drifted, lossy = candidate(0, 45.0), candidate(0, 25.0), candidate(0, 45.0, 70.0)
    bad = candidate(9, 60.0)
    found = together([good, drifted, lossy, bad], 0.05)
    assert (found.kept, found.passed) == (pytest.approx(1 / 3), 1.0)


# Prompts.


def test_prompts_until_it_is_clear() -> None:
    analyses = InterimAnalyses(8, 16, 64, 0.95)
    random = np.random.default_rng(0)
    clear = random.normal(1.0, 0.1, 32)
    hard = random.normal(0.0, 1.0, 32)
    hard += 1e-6 - hard.mean()
    assert verdicts.said(analyses, np.full(64, 1.0)) == (16, True)
    assert verdicts.said(analyses, np.full(64, -1.0)) == (8, False)
    found = verdicts.needed([clear, -clear, hard], analyses, samples=10)
    assert found.prompts == 16
    assert found.undecided[8] > found.undecided[16] >= found.undecided[64] > 0.2
    assert found.wrong < 0.1
    assert found == verdicts.needed([clear, -clear, hard], analyses, samples=10)
    assert math.isinf(verdicts.needed([hard], analyses, samples=10).prompts)


def test_the_margin_of_the_score_is_the_loss_limit() -> None:
    lossy = candidate(0, 40.0, 78.4)
    assert verdicts.margins_of(lossy, None, 0.02) == pytest.approx(np.zeros(COUNT))
    assert verdicts.margins_of(lossy, read_limit("psnr", "at least 30"), 0.02)[0] == 10.0


# Tables and replays.


def test_values_of_each_image_are_read_as_they_were_written(table: Table, tmp_path: Path) -> None:
    write(table, tmp_path / "t.parquet")
    again = read(tmp_path / "t.parquet")
    assert again.rows == table.rows
    assert list(of_table(again)) == []  # nothing says what broke


def test_limits_make_the_truth_stricter(table: Table) -> None:
    plain, limited = Truth.of(table, 0), Truth.of(table, 0, ASKED)
    for cell, good in limited.good.items():
        for each, before in zip(good, plain.good[cell], strict=True):
            assert each.loss >= before.loss
        keeps = [
            row.psnr > 30 and row.ssim > 0.9 and table.losses[row.key] < LIMIT
            for row in table.rows[cell]
        ]
        assert [each.loss < LIMIT for each in good] == keeps
    alone, both = searching.best(table, SAME, loss=False), searching.best(table, SAME)
    for cell, found in both.items():
        assert found is None or found.speedup <= alone[cell].speedup


def test_a_table_is_searched_with_limits(table: Table) -> None:
    noiseless = table.but(noise=0.0, nugget=0.0)
    truth = Truth.of(noiseless, 0, ASKED)
    cell = next(iter(noiseless.rows))
    one = dataclasses.replace(noiseless, rows={cell: noiseless.rows[cell]})
    (found,) = replay(one, "frontier", 0, 8, ASKED)
    assert 0 < found.evaluated < found.candidates
    assert found.evaluated * 8 <= found.images <= found.evaluated * len(table.baseline.prompts)
    assert found.bound is None or found.bound.loss < LIMIT
    assert found.regret < 0.1
    best_speedup = truth.best[cell] or 1.0
    assert found.bound is None or found.bound.speedup <= best_speedup


def test_costs_are_compared_with_one_limit() -> None:
    known = searching.Found(
        "c",
        "tome",
        "loss",
        9,
        [2.0, 4.0],
        [2, 2],
        [32, 32],
        [1, 1],
        [0.0, 0.1],
        [0, 1],
        [None, None],
    )
    more = dataclasses.replace(known, limits="loss, PSNR", full=[3.0, 6.0])
    found = searching.costs([known, more])
    assert (found["loss"].times, found["loss, PSNR"].times) == (1.0, 1.5)
    assert found["loss"].worst_regret == 0.1
    assert found["loss"].wrong == pytest.approx(100 / 14)


def test_the_page_is_made_from_the_data() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(page.read()), "run `make pages`"
