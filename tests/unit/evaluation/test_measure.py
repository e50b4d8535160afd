"""The arithmetic of measuring, and the rules of the timing on a pipeline that we make ourselves."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffaccel.errors import InputError
from diffaccel.evaluation import baseline as baselines
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation import calls
from diffaccel.evaluation.baseline import measure_baseline
from diffaccel.evaluation.calls import Applied, Bench, Candidate, Generate, MeasureError
from diffaccel.evaluation.candidates import evaluate, measure
from diffaccel.evaluation.kept_baselines import Baselines
from diffaccel.evaluation.pairs import Goal, timing_of
from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.evaluation.scores import (
    check_baseline,
    check_scores,
    image_digests,
    loss_interval,
    loss_of,
)
from diffaccel.evaluation.sequential import doubling
from diffaccel.evaluation.timing import time_candidates
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import MeasureOptions, SearchOptions
from diffaccel.experiment.tasks import Task
from diffaccel.machine import gpus
from diffaccel.machine.devices import Device
from diffaccel.machine.gpus import Gpu
from diffaccel.machine.watch import Failure, Watch
from diffaccel.plugins.accelerators import PipelineSpec
from diffaccel.plugins.metrics import METRICS
from diffaccel.plugins.metrics.base import Compute, Metric
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.space import ParametersDict
from diffaccel.search.records import Answer
from diffaccel.stages import baseline
from diffaccel.stages.outcome import result_of
from diffaccel.stages.records import VerifiedScript
from diffaccel.stages.script import Script, goal_of
from diffaccel.store.jsonio import digest, dumps, to_json
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
PROMPTS = [f"prompt {n}" for n in range(8)]
SPEC = ModelSpec("m", "SD1.5", "none", 16, 16, 7.5, 2, "none", "none")
OPTIONS = MeasureOptions(prompts=8, pairs=3, max_pairs=5)


class Result:
    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images


class Recorder:
    """Stands for a pipeline: each image is noise of its seed plus ``shift``; notes its calls."""

    def __init__(self, shift: int = 0, seconds: float = 0.0) -> None:
        self.shift, self.seconds = shift, seconds
        self.calls: list[list[str]] = []

    def __call__(self, *, prompt: list[str], generator: list, **kwargs: object) -> Result:  # type: ignore[type-arg]
        self.calls.append(prompt)
        time.sleep(self.seconds)
        images = []
        for made in generator:
            noise = np.random.default_rng(made.initial_seed()).integers(0, 200, (16, 16, 3))
            images.append(Image.fromarray((noise + self.shift).astype(np.uint8)))
        return Result(images)


def brightness(images: np.ndarray, prompts: object, references: object) -> list[float]:
    return [float(image.mean()) for image in images]


def bench(pipe: Recorder, options: MeasureOptions = OPTIONS) -> Bench:
    metrics = {name: METRICS[name].prepare("", "cpu") for name in ("ssim", "psnr")}
    metrics["clip_score"] = brightness
    return Bench(
        pipe, Configuration("m", "DDIM", 4), SPEC, options, PROMPTS, Device("cpu"), metrics
    )  # type: ignore[arg-type]


def baseline_of(made: Bench) -> tuple[Baseline, np.ndarray]:
    run = measure_baseline(made)
    record = Baseline(
        configuration=made.configuration,
        spec=made.spec,
        options=made.options,
        fingerprint={},
        digest="d",
        environment=Environment("cpu", "cpu", "", "float32", "none", 1, {}),
        pipeline=PipelineSpec("StableDiffusionPipeline", 4, (3, 3, 3, 2), (1, 2, 4)),
        prompts=made.prompts,
        scores=run.scores,
        shuffled_score=float(np.mean(run.shuffled_scores)),
        shuffled_scores=run.shuffled_scores,
        seconds=run.seconds,
        image_digests=image_digests(run.images),
        date="",
    )
    return record, run.images


def putting_on(made: Bench, pipe: Recorder, enter_seconds: float = 0.0):  # type: ignore[no-untyped-def]
    @contextlib.contextmanager
    def applied() -> Iterator[Generate]:
        time.sleep(enter_seconds)
        yield made.calling(pipe)

    return applied


def alone(
    made: Bench, record: Baseline, images: np.ndarray, applied: Applied, parameters: ParametersDict
) -> Measurement:
    (row,) = measure(made, record, images, [Candidate(parameters, applied)])
    return row


def test_the_same_images_lose_nothing() -> None:
    made = bench(Recorder())
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, Recorder()), {})
    assert row.loss == 0 and row.loss_interval == (0, 0)
    assert row.means["ssim"] == pytest.approx(1) and row.means["psnr"] == 100
    assert row.failure is None


def test_loss_has_the_sign_of_the_contract() -> None:
    made = bench(Recorder())
    record, images = baseline_of(made)
    brighter = alone(made, record, images, putting_on(made, Recorder(shift=10)), {})
    assert brighter.loss == pytest.approx(-10 / np.mean(record.scores["clip_score"]))
    assert brighter.means["psnr"] < 40


def test_what_was_evaluated_is_gone_on_with() -> None:
    """Three prompts and then the others are all of them at once; no prompt is evaluated twice."""
    made, candidate = bench(Recorder()), Recorder(shift=10)
    record, images = baseline_of(made)
    wanted = Candidate({}, putting_on(made, candidate), prompts=3)
    few = evaluate(made, record, images, wanted)
    assert few.prompts == 3 and few.loss == loss_of(
        record.scores["clip_score"][:3], few.scores["clip_score"]
    )
    more = evaluate(made, record, images, replace(wanted, prompts=None), few)
    assert [prompt for call in candidate.calls for prompt in call] == PROMPTS
    whole = evaluate(made, record, images, replace(wanted, prompts=None))
    assert more.scores == whole.scores and more.loss_interval == whole.loss_interval
    assert more.spent > few.spent


class Contrast(Metric):
    """A metric of the user's own that needs no reference."""

    name = "contrast"
    better = "higher"
    scale = "levels"
    needs_reference = False

    def prepare(self, source: str, device: str) -> Compute:
        return lambda images, prompts, references: [float(image.std()) for image in images]


def with_contrast(made: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The same after the metric was added."""
    monkeypatch.setattr(calls, "METRICS", {**METRICS, "contrast": Contrast()})
    return replace(made, metrics={**made.metrics, "contrast": Contrast().prepare("", "cpu")})


def test_more_prompts_of_what_was_evaluated_before_a_metric_go_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The images of before are gone, so that it cannot score them."""
    made = bench(Recorder())
    record, images = baseline_of(made)
    wanted = Candidate({}, putting_on(made, Recorder(shift=10)), prompts=3)
    few = evaluate(made, record, images, wanted)
    whole = evaluate(made, record, images, replace(wanted, prompts=None))
    made = with_contrast(made, monkeypatch)
    more = evaluate(made, record, images, replace(wanted, prompts=None), few)
    assert (more.prompts, more.scores) == (len(PROMPTS), whole.scores)
    assert set(more.means) == {"clip_score", "ssim", "psnr"}
    anew = evaluate(made, record, images, wanted)
    assert len(anew.scores["contrast"]) == 3


@pytest.mark.parametrize("before", [4, 8])
def test_a_metric_that_is_new_scores_the_images_of_the_baseline_before(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Recorder()
    made = bench(pipe)
    known = measure_baseline(replace(made, prompts=PROMPTS[:before]))
    made = with_contrast(made, monkeypatch)
    pipe.calls.clear()
    run = measure_baseline(made, known)
    generated = [prompt for call in pipe.calls[1:] for prompt in call]
    assert generated == PROMPTS[before:]  # the first call is the warm-up
    assert run.scores == measure_baseline(made).scores and set(run.scores) >= {"contrast"}


def test_a_script_scores_as_in_the_search_whatever_metrics_were_added() -> None:
    where = Cell(CONFIGURATION, ("deepcache",))
    task = Task("t", "target", where, 1.5, None, 0.02, None)
    chosen = replace(store.measurement(store.deepcache(2), 1.6, 0.01), scores={"ssim": [0.9, 0.8]})
    goal = Goal((3, 6), 0.95, speedup=1.5)
    answer = Answer(task, "met", "", chosen, None, None)
    script = Script(Path("t.py"), answer, chosen, goal, goal, "d")
    for scores, same in (
        ({"ssim": [0.9, 0.8], "contrast": [1.0, 2.0]}, True),
        ({"ssim": [0.9, 0.7], "contrast": [1.0, 2.0]}, False),
        ({"contrast": [1.0, 2.0]}, None),
    ):
        known = VerifiedScript("d", replace(chosen, scores=scores))
        result = result_of(script, known, store.baseline(CONFIGURATION), SearchOptions("frontier"))
        assert result.same_scores is same


def test_a_metric_declares_nothing_that_nobody_reads() -> None:
    sources = [*Path("workflow/diffaccel").rglob("*.py"), Path("tests/docs/metrics.py")]
    texts = [path.read_text() for path in sources]
    declared = list(Metric.__annotations__)
    unread = [name for name in declared if not any(f".{name}" in text for text in texts)]
    assert "needs_reference" in declared and unread == []


def test_every_prompt_is_scored_once_and_pairs_are_interleaved() -> None:
    pipe, candidate = Recorder(), Recorder()
    made = bench(pipe)
    record, images = baseline_of(made)
    pipe.calls.clear()
    row = alone(made, record, images, putting_on(made, candidate), {})
    assert row.timing is not None
    assert len(row.scores["clip_score"]) == len(PROMPTS)
    assert len(row.timing.baseline) == len(row.timing.accelerated) == len(pipe.calls)
    assert {prompt for call in candidate.calls for prompt in call} == set(PROMPTS)
    assert candidate.calls[-len(pipe.calls) :] == pipe.calls
    # Drawn once; the timed calls need no warm-up after that.
    assert len(candidate.calls) == len(PROMPTS) / SPEC.batch_size + len(pipe.calls)


def test_candidates_measured_together_share_the_baseline_and_one_may_fail() -> None:
    def broken(**kwargs: object) -> Result:
        raise RuntimeError("no such block")

    pipe = Recorder(seconds=0.02)
    made = bench(pipe)
    record, images = baseline_of(made)
    pipe.calls.clear()
    made_of = [Recorder(seconds=0.1), broken, Recorder(shift=10)]
    rows = measure(
        made,
        record,
        images,
        [Candidate({"a": {"n": n}}, putting_on(made, each)) for n, each in enumerate(made_of)],  # type: ignore[arg-type]
    )
    assert [row.parameters["a"]["n"] for row in rows] == [0, 1, 2]
    slow, failed, bright = rows
    assert failed.failure == "RuntimeError: no such block" and failed.timing is None
    assert slow.timing is not None and bright.timing is not None
    assert slow.loss == 0 and bright.loss < 0
    shared = min(len(slow.timing.baseline), len(bright.timing.baseline))
    assert shared >= OPTIONS.pairs
    assert slow.timing.baseline[:shared] == bright.timing.baseline[:shared]
    assert len(pipe.calls) == max(len(slow.timing.baseline), len(bright.timing.baseline))
    assert slow.speedup < bright.speedup


def test_the_clock_holds_only_the_call() -> None:
    made = bench(Recorder(seconds=0.02))
    record, images = baseline_of(made)
    applied = putting_on(made, Recorder(seconds=0.02), enter_seconds=0.2)
    row = alone(made, record, images, applied, {})
    assert row.timing is not None
    # Putting on takes ten times the call: inside the timing it would make this 0.1.
    assert row.speedup > 0.5


def test_a_pair_that_was_disturbed_is_repeated() -> None:
    class Disturbed(Recorder):
        """Its sixth call, the second being timed, takes far longer."""

        def __call__(self, **kwargs: Any) -> Result:
            time.sleep(1.0 if len(self.calls) == 5 else 0)
            return super().__call__(**kwargs)

    made = bench(Recorder(seconds=0.1))
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, Disturbed(seconds=0.1)), {})
    assert row.timing is not None
    assert 1 in row.timing.outliers and row.timing.accelerated[1] > 1
    assert row.timing.counted >= OPTIONS.pairs
    assert len(row.timing.baseline) == row.timing.counted + len(row.timing.outliers)
    assert 0.5 < row.speedup < 2


def test_a_speedup_that_drifts_is_said_to() -> None:
    class Slowing(Recorder):
        """Each call takes a fifth longer than the one before."""

        def __call__(self, **kwargs: Any) -> Result:
            time.sleep(0.05 * 1.2 ** len(self.calls))
            return super().__call__(**kwargs)

    made = bench(Recorder(seconds=0.1))
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, Slowing()), {})
    assert row.timing is not None and len(row.timing.baseline) == OPTIONS.max_pairs
    assert row.timing.drift < -0.3
    assert any("drifted by -" in warning for warning in row.warnings)


def test_it_is_timed_until_it_is_clear_whether_a_goal_is_reached() -> None:
    class Wavering(Recorder):
        """Half as fast as the baseline pipeline, then twice as fast, and so on."""

        def __call__(self, **kwargs: Any) -> Result:
            time.sleep(0.04 * 4 ** (len(self.calls) % 2))
            return super().__call__(**kwargs)

    made = bench(Recorder(seconds=0.08))
    record, images = baseline_of(made)
    analyses = doubling(OPTIONS.pairs, OPTIONS.max_pairs, 12)
    candidates = [
        Candidate(
            {"a": {"n": n}}, putting_on(made, pipe), goals=(Goal(analyses, 0.95, speedup=asked),)
        )
        for n, (pipe, asked) in enumerate([(Wavering(), 1.05), (Recorder(seconds=0.01), 1.5)])
    ]
    wavering, fast = (row.timing for row in measure(made, record, images, candidates))
    assert wavering is not None and len(wavering.baseline) == 12
    assert fast is not None and len(fast.baseline) <= OPTIONS.max_pairs


def test_a_crash_is_a_result() -> None:
    def broken(**kwargs: object) -> Result:
        raise RuntimeError("no such block")

    made = bench(Recorder())
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, broken), {"a": {"b": 1}})  # type: ignore[arg-type]
    assert row.failure == "RuntimeError: no such block"
    assert row.parameters == {"a": {"b": 1}} and row.speedup == 0


def test_blank_images_are_a_failure() -> None:
    def blank(*, prompt: list[str], **kwargs: object) -> Result:
        return Result([Image.new("RGB", (16, 16)) for _ in prompt])

    made = bench(Recorder())
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, blank), {})  # type: ignore[arg-type]
    assert row.failure == "8 of 8 images are blank"


def blank_for(*numbers: int) -> Recorder:
    """A pipeline whose images of some prompts are of one colour."""

    class Blank(Recorder):
        def __call__(self, *, prompt: list[str], **kwargs: object) -> Result:  # type: ignore[override]
            images = super().__call__(prompt=prompt, **kwargs).images  # type: ignore[arg-type]
            for place, text in enumerate(prompt):
                if int(text.removeprefix("prompt ")) in numbers:
                    images[place] = Image.new("RGB", (16, 16), (90, 20, 20))
            return Result(images)

    return Blank()


def test_a_baseline_that_is_blank_is_refused() -> None:
    message = r"m_DDIM_4: all 8 images of the baseline pipeline are blank.*dtype"
    with pytest.raises(MeasureError, match=message):
        measure_baseline(bench(blank_for(*range(8))))


def test_what_is_blank_in_the_baseline_is_not_held_against_a_candidate() -> None:
    made = bench(blank_for(2, 5))
    record, images = baseline_of(made)
    same = alone(made, record, images, putting_on(made, blank_for(2, 5)), {})
    assert same.failure is None and same.loss == 0 and same.speedup > 0
    assert not any("blank" in warning for warning in same.warnings)
    better = alone(made, record, images, putting_on(made, Recorder()), {})
    assert better.failure is None
    worse = alone(made, record, images, putting_on(made, blank_for(2, 5, 6)), {})
    assert worse.failure == "1 of 8 images are blank"


def test_a_baseline_says_that_some_of_its_images_are_blank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = Environment("cpu", "cpu", "", "float32", "none", 1, {})
    pipeline = PipelineSpec("StableDiffusionPipeline", 4, (3, 3, 3, 2), (1, 2, 4))
    monkeypatch.setattr(benches, "environment", lambda pipe: where)
    monkeypatch.setattr(benches, "fingerprint_of", lambda bench, where: {})
    monkeypatch.setattr(Bench, "pipeline", pipeline)
    record, _ = baseline._measured(bench(blank_for(2, 5)))
    (warning,) = record.warnings
    assert warning.startswith("2 of 8 images are blank: of the prompts 'prompt 2', 'prompt 5'")
    assert baseline._measured(bench(Recorder()))[0].warnings == []


def test_a_baseline_says_how_many_prompts_the_text_encoder_cuts() -> None:
    # One token a letter, and two for start and end.
    prompts = ["a" * (tiny.TOKENS + more) for more in (-11, -2, -1, 24)]
    made = replace(bench(Recorder()), pipe=tiny.sdxl(), prompts=prompts)
    (warning,) = measure_baseline(made).warnings
    assert warning == (
        "2 of 4 prompts are longer than the 16 tokens that the pipeline's text encoder takes: "
        "what comes after them has no effect on the images"
    )
    short = replace(made, prompts=prompts[:1] * 4)
    assert measure_baseline(short).warnings == []
    made.pipe.tokenizer_2.model_max_length = 8
    assert baselines._cut_prompts(short) == []
    assert baselines._cut_prompts(made)[0].startswith("3 of 4 prompts are longer than the 8 tokens")


@pytest.mark.parametrize(("prompts", "images"), [(2, 2), (3, 3), (4, 4), (8, 4)])
def test_an_image_takes_its_share_of_the_call_that_was_timed(prompts: int, images: int) -> None:
    made = bench(Recorder(seconds=0.002), replace(OPTIONS, prompts=prompts))
    made = replace(made, spec=replace(SPEC, batch_size=4), prompts=PROMPTS[:prompts])
    record, references = baseline_of(made)
    assert record.images_per_call == images
    assert record.seconds_per_image == statistics.median(record.seconds) / images
    pipe = Recorder(seconds=0.002)
    row = alone(made, record, references, putting_on(made, pipe), {"a": {"n": 1}})
    assert row.timing is not None
    last = pipe.calls[-len(row.timing.accelerated) :]
    assert {len(call) for call in last} == {images}
    asked = Task("t", "user", None, None, None, 0.5, None, latency_s=0.1)
    goal = goal_of(asked, record, 48)
    pairs = [(0.1 * images, 0.082 * images)] * goal.analyses[-1]
    assert goal.reached(pairs) is True
    assert goal.reached([(plain, 2 * own) for plain, own in pairs]) is False


def test_another_baseline_is_noticed() -> None:
    made = bench(Recorder())
    record, images = baseline_of(made)
    row = alone(made, record, images + 1, putting_on(made, Recorder()), {})
    assert any("not the same" in warning for warning in row.warnings)


def test_a_score_that_knows_nothing_is_refused() -> None:
    record, _ = baseline_of(bench(Recorder()))
    reason = check_baseline(record)
    assert reason is not None
    mean = np.mean(record.scores["clip_score"])
    assert f"{mean:.2f}" in reason and f"{record.shuffled_score:.2f}" in reason
    own = record.scores["clip_score"]
    assert check_baseline(replace(record, shuffled_scores=[each / 2 for each in own])) is None


def test_a_score_is_compared_image_by_image() -> None:
    """Captions differ in how high they score at all: that is no doubt of the images."""
    own = [40.0, 60.0, 80.0, 100.0]
    assert check_scores(own, [each - 5 - number / 10 for number, each in enumerate(own)]) is None
    # Just as far on average, but the other's prompt fits as well.
    reason = check_scores(own, [100.0, 75.0, 50.0, 35.0])
    assert reason is not None and "70.00" in reason and "65.00" in reason


def test_loss_of_means() -> None:
    assert loss_of([50.0, 100.0], [45.0, 96.0]) == pytest.approx(9 / 150)


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        first = random.normal(80, 5, 32)
        second = first * 0.98 + random.normal(0, 2, 32)
        low, high = loss_interval(first, second, 0.95)
        covered += low <= 0.02 <= high
    # 300 generates of a 95% interval that is a little short at 32 prompts.
    assert 0.90 <= covered / 300 <= 0.99


def test_the_speedup_is_the_median_of_ratios() -> None:
    timing = timing_of([(2.0, 1.0), (4.1, 2.0), (9.0, 4.45)])
    assert timing.speedup == pytest.approx(9 / 4.45)
    assert timing.speedup_of_means == pytest.approx(15.1 / 7.45)
    assert timing_of([(1.0, 1.0)] * 3).spread == 0


class Limited(Recorder):
    """What has memory for so many images at once."""

    def __init__(self, size: int, shift: int = 0) -> None:
        super().__init__(shift)
        self.size = size

    def __call__(self, *, prompt: list[str], generator: list, **kwargs: object) -> Result:  # type: ignore[type-arg]
        if len(prompt) > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")
        return super().__call__(prompt=prompt, generator=generator, **kwargs)


def wide(pipe: Recorder) -> Bench:
    """Of four prompts a call."""
    return replace(bench(pipe), spec=replace(SPEC, batch_size=4))


@pytest.mark.long
def test_a_candidate_out_of_memory_is_measured_in_smaller_batches() -> None:
    made = wide(Recorder())
    record, images = baseline_of(made)
    small = Limited(1, shift=10)
    row = alone(made, record, images, putting_on(made, small), {"deepcache": {}})
    whole = alone(made, record, images, putting_on(made, Recorder(shift=10)), {"deepcache": {}})
    assert row.failure is None and row.timing is not None
    assert (row.loss, row.scores) == (whole.loss, whole.scores)
    # What a noisy timing says comes after.
    assert row.warnings[:2] == [
        f"not enough memory for 4 images at once: {what} 1 at a time"
        for what in ("evaluated", "timed")
    ]
    assert not any("memory" in each for each in whole.warnings)
    assert {len(call) for call in small.calls} == {1}


@pytest.mark.long
def test_an_image_takes_its_energy_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a batch was evaluated in halves, since there was not enough memory."""
    gpu = Gpu("0", "a card", "GPU-1")
    for limit in (8, 2, 1):
        pipe = Limited(limit)
        # Four joules an image, by the driver's counter.
        spent = functools.partial(lambda pipe, _: 4000 * sum(map(len, pipe.calls)), pipe)
        monkeypatch.setattr(gpus, "energy", spent)
        made = replace(wide(pipe), device=Device("cpu", gpu=gpu))
        called = made.called(Candidate({}, putting_on(made, pipe)), made.batches()[0])
        assert called.usage.joules == pytest.approx(4.0)


def test_what_does_not_fit_at_all_is_a_failure() -> None:
    made = wide(Recorder())
    record, images = baseline_of(made)
    row = alone(made, record, images, putting_on(made, Limited(0)), {"deepcache": {}})
    assert row.failure == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert row.loss == 1 and row.speedup == 0


@pytest.mark.parametrize(("fits", "batch"), [(4, 4), (3, 2), (1, 1)])
def test_a_baseline_out_of_memory_is_measured_in_smaller_batches(
    fits: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wide(Limited(fits))
    monkeypatch.setattr(baselines, "run_baseline", lambda made, before: baseline_of(made))
    record, images = baseline._measured(made)
    assert record.spec.batch_size == batch and len(images) == len(PROMPTS)
    said = f"not enough memory for 4 images at once: measured {batch} at a time"
    assert record.warnings == ([] if batch == 4 else [said])


def test_a_baseline_that_never_fits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "run_baseline", lambda made, before: baseline_of(made))
    with pytest.raises(InputError, match="not even one image of 16x16 fits on cpu"):
        baseline._measured(wide(Limited(0)))


def test_a_score_that_is_no_number_is_a_failure() -> None:
    made = bench(Recorder())
    record, images = baseline_of(made)

    def broken(images: np.ndarray, prompts: object, references: object) -> list[float]:
        return [math.nan, *brightness(images[1:], prompts, references)]

    made = replace(made, metrics={**made.metrics, "clip_score": broken})
    row = evaluate(made, record, images, Candidate({}, putting_on(made, Recorder())))
    assert row.failure == "not a number: clip_score of 1 images" and row.loss == 1
    assert json.loads(dumps(to_json(row)))["scores"] == {}
    with pytest.raises(
        MeasureError, match=r"baseline pipeline's scores are not a number: clip_score"
    ):
        measure_baseline(made)


def test_what_ended_a_process_is_not_called_again() -> None:
    made, parameters = bench(Recorder()), {"deepcache": {"cache_interval": 2}}
    record, images = baseline_of(made)
    blamed = {digest(parameters): Failure("a call ended the process, by signal SIGSEGV")}
    made, pipe = replace(made, watch=Watch(blamed)), Recorder()
    row = alone(made, record, images, putting_on(made, pipe), parameters)
    assert row.failure == "a call ended the process, by signal SIGSEGV" and pipe.calls == []
    other = alone(made, record, images, putting_on(made, pipe), {"deepcache": {}})
    assert other.failure is None


def test_what_was_evaluated_is_kept_where_going_on_fails_for_what_may_pass() -> None:
    made, parameters = bench(Recorder()), {"deepcache": {"cache_interval": 2}}
    record, images = baseline_of(made)
    wanted = Candidate(parameters, putting_on(made, Recorder(shift=10)), prompts=4)
    few = evaluate(made, record, images, wanted)
    late = Failure("a call took more than 600 s", passing=True)
    made = replace(made, watch=Watch({digest(parameters): late}))
    again = evaluate(made, record, images, replace(wanted, prompts=None), few)
    assert again == replace(few, passing=late.reason)
    crashed = replace(made, watch=Watch({digest(parameters): replace(late, passing=False)}))
    assert evaluate(crashed, record, images, replace(wanted, prompts=None), few).scores == {}


@pytest.mark.parametrize("passing", [True, False])
def test_what_may_pass_is_said_to(passing: bool) -> None:
    made, parameters = bench(Recorder()), {"deepcache": {"cache_interval": 2}}
    record, images = baseline_of(made)
    made = replace(made, watch=Watch({digest(parameters): Failure("why", passing)}))
    candidate = Candidate(parameters, putting_on(made, Recorder()))
    (measured,) = measure(made, record, images, [candidate])
    (timed,) = time_candidates(made, [candidate])
    assert measured.failure == timed.failure == "why"
    assert measured.passing == timed.passing == ("why" if passing else None)


def test_a_baseline_with_more_prompts_goes_on_from_the_one_before(tmp_path: Path) -> None:
    pipe = Recorder(shift=3)
    made = bench(pipe)
    few = replace(made, prompts=PROMPTS[:4])
    kept = Baselines(tmp_path)
    record, images = baseline_of(few)
    kept.keep(record, images)
    pipe.calls.clear()
    run = measure_baseline(made, kept.before(record.digest, PROMPTS))
    assert PROMPTS[4:] == [prompt for call in pipe.calls[1:] for prompt in call]
    whole = measure_baseline(made)
    assert np.array_equal(run.images, whole.images)
    assert (run.scores, run.shuffled_scores) == (whole.scores, whole.shuffled_scores)
    assert run.seconds == record.seconds


def test_a_baseline_that_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    """Nor with fewer prompts, nor with others beside it."""
    pipe = Recorder(shift=3)
    made = bench(pipe)
    kept = Baselines(tmp_path)
    record, images = baseline_of(made)
    for each, own in ((record, "d"), (replace(record, digest="e"), "e")):
        kept.keep(each, images)
        assert kept.before(own, ["another"]) is None
    pipe.calls.clear()
    for count in (8, 4):
        run = measure_baseline(
            replace(made, prompts=PROMPTS[:count]), kept.before("d", PROMPTS[:count])
        )
        assert np.array_equal(run.images, images[:count])
        assert run.scores == {name: each[:count] for name, each in record.scores.items()}
    assert pipe.calls == []
    (tmp_path / next(tmp_path.glob("d_*/003.png"))).unlink()
    assert kept.before("d", PROMPTS) is None
