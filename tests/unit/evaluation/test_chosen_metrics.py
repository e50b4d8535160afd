"""What becomes of a store when metrics are added, taken away, or change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.evaluation import baseline as baselines
from diffaccel.evaluation import keys
from diffaccel.evaluation.baseline import measure_baseline
from diffaccel.evaluation.candidates import evaluate
from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.experiment.config import load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.plugins.metrics import MetricChoice
from diffaccel.store.journal import holds
from diffaccel.store.jsonio import read_record, to_json, write_record
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
DINO = {"dino": "a"}


def baseline(metrics: dict[str, str] | None = None) -> Baseline:
    return replace(store.baseline(CONFIGURATION), metrics=metrics)


def evaluation(names: Sequence[str], failure: str | None = None) -> Evaluation:
    made = store.measurement(store.deepcache(3), 1.0, 0.01)
    scores = {name: [0.5] * 4 for name in names}
    fields = {field: vars(made)[field] for field in Evaluation.__dataclass_fields__}
    return Evaluation(**fields | {"scores": scores, "failure": failure})


def rows(folder: Path, now: Baseline) -> list[Evaluation]:
    return keys.evaluated(folder, now, "cell").rows()


@pytest.mark.parametrize(
    ("before", "now", "used"),
    [
        (None, None, True),
        (None, DINO, False),
        (DINO, DINO, True),
        (DINO, None, True),
        (DINO, {"dino": "b"}, False),
        ({**DINO, "lpips": "c"}, DINO, True),
        (DINO, {**DINO, "lpips": "c"}, False),
    ],
)
def test_an_evaluation_is_used_where_it_has_what_is_asked(
    before: dict[str, str] | None, now: dict[str, str] | None, used: bool, tmp_path: Path
) -> None:
    names = ["clip_score", *(before or {})]
    keys.evaluated(tmp_path, baseline(before), "cell").append(evaluation(names))
    assert bool(rows(tmp_path, baseline(now))) is used


def test_what_crashed_crashes_whatever_it_is_scored_by(tmp_path: Path) -> None:
    crashed = evaluation([], "no such block")
    keys.evaluated(tmp_path, baseline(), "cell").append(crashed)
    assert rows(tmp_path, baseline(DINO)) == [crashed]


def test_only_what_was_added_may_be_more_than_is_asked() -> None:
    assert holds({"a": "1", "+m": "2"}, {"a": "1"})
    assert not holds({"a": "1", "b": "2"}, {"a": "1"})
    assert not holds({"+m": "2"}, {"a": "1"})


def test_records_without_metrics_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_record(path, baseline())
    assert '"metrics"' not in path.read_text()
    assert "metrics" not in to_json(baseline().spec)
    assert read_record(Baseline, path) == baseline()
    write_record(path, baseline(DINO))
    assert read_record(Baseline, path).metrics == DINO


def test_the_jobs_of_an_experiment_without_metrics_are_as_before() -> None:
    job = Experiment(load({})).model_job("mini-SD1.5")
    assert "metrics" not in job["spec"]
    config = {"metrics": ["scene_right", "psnr", {"name": "dino", "source": "a/b"}]}
    job = Experiment(load(config)).model_job("mini-SD1.5")
    assert job["spec"]["metrics"] == [{"name": "dino", "source": "a/b"}, {"name": "scene_right"}]


def test_their_order_means_nothing() -> None:
    found = {
        str(Experiment(load({"metrics": names})).model_job("mini-SD1.5"))
        for names in (["ms_ssim", "scene_right"], ["scene_right", "ms_ssim", "ssim"])
    }
    assert len(found) == 1


def test_the_images_of_a_baseline_are_scored_again_by_what_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.unit.evaluation.test_measure import PROMPTS, Recorder, bench

    asked: list[int] = []

    def own(images: np.ndarray, prompts: Any, references: Any) -> list[float]:
        asked.append(len(images))
        return [1.0] * len(images)

    made = bench(Recorder())
    spec = replace(made.spec, metrics=(MetricChoice("pick_score", "x"),))
    made = replace(made, spec=spec, metrics={**made.metrics, "pick_score": own})
    monkeypatch.setattr(baselines, "identities", lambda _: {"pick_score": "new"})
    known = measure_baseline(made)
    asked.clear()
    measure_baseline(made, replace(known, metrics={"pick_score": "new"}))
    assert asked == []
    run = measure_baseline(made, replace(known, metrics={"pick_score": "old"}))
    assert asked == [len(PROMPTS)] and run.scores["pick_score"] == [1.0] * len(PROMPTS)
    without = replace(made, spec=replace(spec, metrics=()), metrics=bench(Recorder()).metrics)
    assert set(measure_baseline(without, known).scores) == {"clip_score"}


def test_more_prompts_of_what_has_a_metric_have_it_too() -> None:
    from tests.unit.evaluation.test_measure import (
        Candidate,
        Recorder,
        baseline_of,
        bench,
        putting_on,
    )

    made = bench(Recorder())
    record, images = baseline_of(made)
    metrics = {**made.metrics, "scene_right": lambda i, p, r: [1.0] * len(i)}
    made = replace(made, metrics=metrics)
    wanted = Candidate({}, putting_on(made, Recorder(shift=3)), prompts=3)
    few = evaluate(made, record, images, wanted)
    more = evaluate(made, record, images, replace(wanted, prompts=None), few)
    assert len(few.scores["scene_right"]) == 3
    assert len(more.scores["scene_right"]) == len(more.scores["clip_score"]) == 8
