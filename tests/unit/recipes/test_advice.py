"""What is said to be of use is what clearly is; what may be is said with what would tell."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.space import ParametersDict
from diffaccel.recipes import advice
from diffaccel.recipes.advice import Advice, advise
from diffaccel.recipes.known import Known
from diffaccel.search.records import Answer, Search
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
CACHE, GATE, FEWER = ("deepcache",), ("tgate",), ("fewer_steps",)
PROMPTS = 16


def baseline(most: int = PROMPTS) -> Baseline:
    made = store.baseline(CONFIGURATION)
    return dataclasses.replace(
        made,
        options=dataclasses.replace(made.options, prompts=PROMPTS),
        prompts=[f"prompt {number}" for number in range(most)],
        scores={SCORE: [80.0] * most},
    )


def row(parameters: ParametersDict, speedup: float, loss: float, noise: float = 0.0) -> Measurement:
    """One whose scores differ by ``noise`` times 80 about their mean."""
    waves = np.resize([1.0, -1.0], PROMPTS)
    scores = (80 * (1 - loss + noise * waves)).tolist()
    return dataclasses.replace(store.measurement(parameters, speedup, loss), scores={SCORE: scores})


def steps(count: int) -> ParametersDict:
    return {"fewer_steps": {"steps": count}}


def known(
    cache: Sequence[Measurement] = (),
    gate: Sequence[Measurement] = (),
    fewer: Sequence[Measurement] = (),
    plain: Baseline | None = None,
) -> Known:
    plain = plain or baseline()

    def cell(names: tuple[str, ...], rows: Sequence[Measurement]):  # type: ignore[no-untyped-def]
        made = store.frontier(Cell(CONFIGURATION, names), rows)
        return dataclasses.replace(made, baseline=plain.whole)

    cells = [cell(CACHE, cache), cell(GATE, gate)]
    return Known(plain, Search(CONFIGURATION, cells, [], cell(FEWER, fewer)))


SLOW = row(store.deepcache(2), 1.5, 0.001)
FAST = row(store.deepcache(4), 2.5, 0.012)
OPEN = row(store.deepcache(6), 3.5, 0.015, noise=0.02)
LOSSY = row(store.deepcache(9), 4.5, 0.15)


def test_the_fastest_that_is_clear_is_to_be_used_and_not_the_fastest() -> None:
    found = advise(known([SLOW, FAST, OPEN, LOSSY]))
    assert found.best is not None and found.best.measured == FAST
    assert not found.best.fewer_steps and found.best.names == CACHE
    assert found.unclear is not None and found.unclear.choice.measured == OPEN
    said = "\n".join(advice.lines(found))
    assert said.startswith("To use: DeepCache, 2.50x, loss +1.2%") and "4.50x" not in said
    assert "Not clear yet: DeepCache, 3.50x" in said and "more prompts would tell" in said
    assert said.splitlines()[-1].strip() == found.unclear.command


def test_fewer_steps_are_to_be_used_where_they_win() -> None:
    found = advise(known([FAST], fewer=[row(steps(7), 2.8, 0.011)]))
    assert found.best is not None and found.best.fewer_steps
    assert found.other is not None and found.other.measured == FAST
    (first, second, *_) = advice.lines(found)
    assert first.startswith("To use: fewer steps, 2.80x") and "DeepCache, 2.50x" in second


def test_where_nothing_is_clear_nothing_is_said_to_be() -> None:
    found = advise(known([OPEN]))
    assert found.best is None and found.unclear is not None
    assert next(iter(advice.lines(found))).startswith("To use: the baseline pipeline.")


def test_what_is_no_faster_than_the_plain_pipeline_is_of_no_use() -> None:
    assert advise(known([row(store.deepcache(2), 0.95, -0.01)])) == Advice(
        0.02, (), None, None, None
    )


def test_of_some_accelerators_alone() -> None:
    gate = row(store.tgate(9), 3.0, 0.001)
    every = known([FAST], [gate])
    best = advise(every).best
    assert best is not None and best.names == GATE
    best = advise(every, [CACHE]).best
    assert best is not None and best.names == CACHE


def test_another_limit_is_another_verdict() -> None:
    best = advise(known([SLOW, FAST]), limit=0.005).best
    assert best is not None and best.measured == SLOW


def test_the_prompts_that_would_tell_do_tell() -> None:
    """As many of the same kind; half as many do not."""
    plain = baseline(most=8 * PROMPTS)
    more = advice.more_prompts(plain, OPEN, 0.02)
    assert more is not None and PROMPTS < PROMPTS + more <= 8 * PROMPTS
    analyses = plain.analyses
    waves = np.resize(OPEN.scores[SCORE], PROMPTS + more).tolist()
    assert analyses.below(plain.scores[SCORE], waves, 0.02) is True
    less = waves[: (PROMPTS + more) // 2]
    assert analyses.below(plain.scores[SCORE], less, 0.02) is None


def test_of_what_is_not_clear_the_one_that_is_told_soonest() -> None:
    """Not the fastest, which thousands of prompts could not tell."""
    hopeless = row(store.tgate(5), 5.0, 0.01999, noise=0.05)
    found = advise(known([OPEN], [hopeless])).unclear
    assert found is not None and found.choice.measured == OPEN


@pytest.mark.parametrize("most", [PROMPTS, 64 * PROMPTS])
def test_the_command_evaluates_it_on_as_many(most: int) -> None:
    """Of the prompts that there are by more time, of more by more prompts, if its file has them."""
    plain = baseline(most)
    found = advise(known([OPEN], plain=plain)).unclear
    assert found is not None and found.more is not None
    program, verb, flag, *changes = shlex.split(found.command)
    assert (program, verb, flag) == ("diffaccel", "run", "--config")
    told = {k: yaml.safe_load(v) for k, v in (change.split("=", 1) for change in changes)}
    assert told["search"] == {"budget": None}
    enough = PROMPTS + found.more
    assert told.get("measure") == (None if enough <= most else {"max_prompts": enough})


def test_thousands_are_not_counted() -> None:
    close = row(store.deepcache(6), 3.5, 0.01999, noise=0.05)
    found = advise(known([close])).unclear
    assert found is not None and found.more is None and found.command == ""
    assert "that thousands of prompts would be needed to tell." in "\n".join(
        advice.lines(advise(known([close])))
    )


def test_it_is_shown_and_recommended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from diffaccel.cli import main

    rows = [store.measurement(store.deepcache(2), 1.5, 0.001)]
    rows.append(store.measurement(store.deepcache(5), 2.5, 0.015, high=0.03))
    task = Task("t", "target", Cell(CONFIGURATION, CACHE), 1.2, None, store.LIMIT, None)
    answers = [Answer(task, "met", "", rows[0], None, None)]
    store.write(tmp_path, CONFIGURATION, {CACHE: rows}, answers=answers)
    main(["show", str(tmp_path / "cpu")])
    shown = capsys.readouterr().out
    assert "To use: DeepCache, 1.50x" in shown and "Not clear yet: DeepCache, 2.50x" in shown
    command = ["recommend", "--model", "mini-SD1.5", "--scheduler", "DDIM", "--steps", "20"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--results", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert end.value.code == 0 and "the fastest within a loss of 0.02" in said[0]
    assert said[1].startswith("  1.50x") and "too few" not in said[1]
    assert said[2].startswith("  2.50x") and "its prompts are too few to tell" in said[2]
