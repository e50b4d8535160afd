"""How far a run is: what its notes, jobs, results and journals tell, and what is said of it."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Evaluation, SpeedRow, Timing, TimingRow
from diffaccel.experiment.grid import Configuration
from diffaccel.machine import jobs
from diffaccel.machine.jobs import Job
from diffaccel.report.words import duration
from diffaccel.run import events, stores, texts, view
from diffaccel.run.progress import Left, Progress, find
from diffaccel.run.reader import Reader
from diffaccel.stages.records import Outcome
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import write_json, write_record
from tests.store import baseline, deepcache, measurement
from tests.store import write as write_configuration

ONE, TWO = (Configuration("mini-SD1.5", scheduler, 20) for scheduler in ("DDIM", "DPM-Solver++"))
CELLS = [["deepcache"], ["tgate"]]


def begin(
    store: Path, *, stages: tuple[str, ...] = ("baseline", "search"), **about: object
) -> None:
    """A run of both configurations that is to make all of these stages."""
    files = [
        f"{store}/{stage}/{configuration.slug}.json"
        for stage in stages
        for configuration in (ONE, TWO)
    ]
    given: dict[str, object] = {
        "configurations": {configuration.slug: CELLS for configuration in (ONE, TWO)},
        "loss_limit": 0.02,
        "loss_confidence": "point",
        "fewer_steps": ["fewer_steps"],
    }
    jobs.begin(store, files, files, str(store / "said.log"), **given | about)  # type: ignore[arg-type]


def log_of(store: Path, stage: str, configuration: Configuration) -> Path:
    path = store / "logs" / stage / f"{configuration.slug}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def done(store: Path, stage: str, configuration: Configuration, seconds: float) -> None:
    """A job of the run that took so long."""
    path = log_of(store, stage, configuration)
    with jobs.noted(path):
        pass
    job = jobs.read_job(path.with_suffix(".json"))
    assert job.ended is not None and job.status == "done"
    jobs.change(path.with_suffix(".json"), started=job.ended - seconds)


def evaluation(number: int, loss: float, **changes: object) -> Evaluation:
    row = Evaluation(
        deepcache(number), loss, (loss - 0.01, loss + 0.01), {}, {}, None, 3.0, "2026-11-21"
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def timing_row(number: int, speedup: float) -> TimingRow:
    timing = Timing([speedup], [1.0], speedup, speedup, 0.0)
    row = SpeedRow(deepcache(number), timing, None, 1.0, "2026-11-21")
    return TimingRow(ONE.slug, baseline(ONE).pipeline, row)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "results" / "cpu"


def test_without_a_run_it_says_so(store: Path) -> None:
    with pytest.raises(InputError, match="nothing has run there yet"):
        find(store.parent)
    store.mkdir(parents=True)
    progress = Reader(find(store.parent)).read()
    assert progress.state == "none" and "diffaccel run" in texts.head(progress)


def test_a_run_goes_on_as_long_as_it_holds_its_store(store: Path) -> None:
    with stores.hold(store):
        begin(store)
        reader = Reader(find(store.parent))
        assert reader.read().state == "going"
        with stores.hold(store.parent / "other"):
            begin(store.parent / "other")
            jobs.end(store.parent / "other", True)
        assert find(store.parent / "other") == store.parent / "other"
    assert reader.read().state == "killed"
    assert "goes on from there" in texts.head(reader.read())
    jobs.end(store, False)
    assert reader.read().state == "failed"
    assert find(store.parent / "other") == store.parent / "other"
    assert Reader(store.parent / "other").read().state == "done"


def test_who_looks_does_not_keep_a_run_from_its_store(store: Path) -> None:
    """The lock is free again before the run gives up."""
    store.mkdir(parents=True)
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    looking = multiprocessing.Process(target=_look, args=(store / jobs.LOCK, ready, stop))
    looking.start()
    try:
        assert ready.wait(60)
        for _ in range(20):
            stores.hold(store).close()
    finally:
        stop.set()
        looking.join()


def _look(path: Path, ready: Event, stop: Event) -> None:
    while not stop.is_set():
        jobs.is_held(path)
        ready.set()
        time.sleep(0.001)


def test_candidates_and_the_best_of_them_come_from_the_journals(store: Path) -> None:
    with stores.hold(store):
        begin(store)
        write_record(store / "baseline" / f"{ONE.slug}.json", baseline(ONE))
        reader = Reader(store)
        evaluated = Journal(
            store / "journal/evaluations" / f"{ONE.slug}_deepcache.jsonl", ONE.slug, Evaluation
        )
        timed = Journal(store / "journal/timed/mini-SD1.5.jsonl", "of the model", TimingRow)
        with jobs.noted(log_of(store, "search", ONE)):
            jobs.note(device="GPU 1", most={f"{ONE.slug}_deepcache": 18})
            evaluated.append(evaluation(2, 0.01))
            evaluated.append(evaluation(3, 0.5))
            first = reader.read().configurations[ONE.slug][0]
            assert (first.measured, first.most, first.best, first.done) == (2, 18, None, False)
            timed.append(timing_row(3, 5.0))  # loses too much
            timed.append(timing_row(2, 2.5))
            evaluated.append(evaluation(4, 0.0, failure="black images"))
            timed.append(timing_row(4, 9.0))
            with evaluated.path.open("ab") as file:
                file.write(b'{"half a li')
            progress = reader.read()
            (job,) = progress.working
            assert (job.device, job.name) == ("GPU 1", ONE.slug)
            cell = progress.configurations[ONE.slug][0]
            assert cell.measured == progress.measured == 3
            assert cell.best is not None and cell.best.speedup == 2.5
            assert progress.best == cell.best
            stale = Journal(evaluated.path, "another baseline", Evaluation)
            stale.append(evaluation(5, 0.0))
            evaluated.append(evaluation(6, 0.0))
            assert reader.read().measured == Reader(store).read().measured == 4


def test_the_upper_end_counts_where_it_must_keep_the_limit(store: Path) -> None:
    with stores.hold(store):
        begin(store, loss_confidence="upper")
        write_record(store / "baseline" / f"{ONE.slug}.json", baseline(ONE))
        path = store / "journal/evaluations" / f"{ONE.slug}_deepcache.jsonl"
        Journal(path, ONE.slug, Evaluation).append(evaluation(2, 0.015))
        Journal(path, ONE.slug, Evaluation).append(evaluation(3, 0.005))
        timed = Journal(store / "journal/timed/mini-SD1.5.jsonl", "of the model", TimingRow)
        timed.append(timing_row(2, 3.0))
        timed.append(timing_row(3, 2.0))
        best = Reader(store).read().best
        assert best is not None and best.speedup == 2.0


@pytest.mark.parametrize(
    ("words", "fastest"),
    [
        (["psnr at least 30"], 2.0),
        (["psnr at least 20"], 3.0),
        (["clip_score 1% loss"], 2.0),
        (["scene_right 10% loss"], 2.0),
        (["scene_right 0.5 less"], 3.0),
    ],
)
def test_the_best_keeps_the_limits_of_its_configuration(
    store: Path, words: list[str], fastest: float
) -> None:
    made = baseline(ONE)
    right = made.scores | {"scene_right": [1.0] * len(made.prompts)}
    with stores.hold(store):
        begin(store, limits={ONE.slug: words})
        write_record(store / "baseline" / f"{ONE.slug}.json", replace(made, scores=right))
        path = store / "journal/evaluations" / f"{ONE.slug}_deepcache.jsonl"
        for number, loss, psnr, share in ((2, 0.015, 25.0, 0.8), (3, 0.005, 35.0, 1.0)):
            scores = {"psnr": [psnr] * 4, "scene_right": [share] * 4}
            Journal(path, ONE.slug, Evaluation).append(evaluation(number, loss, scores=scores))
        timed = Journal(store / "journal/timed/mini-SD1.5.jsonl", "of the model", TimingRow)
        timed.append(timing_row(2, 3.0))
        timed.append(timing_row(3, 2.0))
        best = Reader(store).read().best
        assert best is not None and best.speedup == fastest


def test_cells_are_done_when_their_configuration_is(store: Path) -> None:
    """What a record of an earlier run says does not count as long as it is to be made anew."""
    rows = {("deepcache",): [measurement(deepcache(3), 2.0, 0.01)], ("tgate",): []}
    with stores.hold(store):
        begin(store)
        for configuration in (ONE, TWO):
            write_configuration(store.parent, configuration, rows)
        reader = Reader(store)
        assert (reader.read().cells, reader.read().cells_done) == (4, 0)
        done(store, "search", ONE, 60)
        progress = reader.read()
        assert progress.cells_done == 2 and progress.best is not None
        assert [job.name for job in progress.ended] == [ONE.slug]
        assert "DeepCache 2.00x, T-Gate none (2 of 4 cells)" in "\n".join(
            events.Events().news(progress)
        )


def test_time_left_is_unknown_before_there_is_ground(store: Path) -> None:
    with stores.hold(store):
        begin(store, stages=("baseline", "search", "verify"))
        reader = Reader(store)

        def left() -> Left:
            found = reader.read().left
            assert found is not None
            return found

        assert left() == Left(None, ("baseline", "search", "verify"))
        assert texts.left(left()) == "unknown before a first baseline, search and verification"
        for configuration in (ONE, TWO):
            done(store, "baseline", configuration, 10)
        assert left() == Left(None, ("search", "verify"))
        done(store, "search", ONE, 300)
        partly = left()
        # One after the other they took 320 s, and the other search is to come.
        assert partly.unknown == ("verify",) and partly.seconds is not None
        assert partly.seconds == pytest.approx(300, rel=0.2)
        assert texts.left(partly) == "more than 5 min; the rest unknown before a first verification"
        done(store, "search", TWO, 300)
        done(store, "verify", ONE, 50)
        whole = left()
        assert whole.unknown == () and whole.seconds == pytest.approx(50, rel=0.2)
        done(store, "verify", TWO, 50)
        assert left() == Left(0.0)
    assert reader.read().left is None  # it does not go on


def test_a_budget_says_how_long_a_stage_takes_before_one_was_done(store: Path) -> None:
    with stores.hold(store):
        begin(
            store,
            stages=("baseline", "search", "verify"),
            budgets={"search": 240.0, "verify": 120.0},
            at_once=2,
        )
        reader = Reader(store)
        first = reader.read()
        # Two configurations at once: as long as one of them takes.
        assert first.left == Left(360.0, ("baseline",))
        said = "\n".join(events.Events().news(first))
        assert "left: more than 6 min; the rest unknown before a first baseline" in said
        assert "each search at most 4 min (search.budget), each verification at most 2 min" in said
        for configuration in (ONE, TWO):
            done(store, "baseline", configuration, 10)
        done(store, "search", ONE, 200)  # less than it might
        assert reader.read().left == Left(pytest.approx(200 + 120), ())


def test_what_failed_and_what_needs_it_is_not_to_come(store: Path) -> None:
    with stores.hold(store):
        begin(store)
        path = log_of(store, "baseline", ONE)
        with pytest.raises(SystemExit), jobs.noted(path):
            sys.exit(1)
        done(store, "baseline", TWO, 10)
        done(store, "search", TWO, 100)
        progress = Reader(store).read()
        assert progress.left == Left(0.0) and len(progress.failed) == 1
        assert "baselines 1 of 2 (1 failed), searches 1 of 2" in texts.stages(progress)
        with jobs.noted(path):  # it is tried again
            again = Reader(store).read().left
            assert again is not None and again.seconds == pytest.approx(100, rel=0.2)


def test_of_a_longer_kind_more_is_expected(store: Path) -> None:
    long, like = Configuration("SDXL", "DDIM", 50), Configuration("SDXL", "DPM-Solver++", 50)
    with stores.hold(store):
        slugs = [each.slug for each in (ONE, TWO, long, like)]
        files = [f"{store}/baseline/{slug}.json" for slug in slugs]
        about = {"loss_limit": 0.02, "loss_confidence": "point"}
        jobs.begin(
            store, files, files, "said", configurations={slug: CELLS for slug in slugs}, **about
        )
        for configuration, seconds in ((ONE, 10), (long, 1000)):
            done(store, "baseline", configuration, seconds)
        found = Reader(store).read().left
        # Both began at different times, so that there was one at once or a little more.
        assert found is not None and found.seconds is not None
        assert 1000 <= found.seconds <= 1010


def test_a_job_that_died_is_told_from_one_that_lives(store: Path) -> None:
    with stores.hold(store):
        begin(store)
        path = log_of(store, "search", ONE)
        path.write_text("Traceback\nthe last that it said\n")
        ready = multiprocessing.Event()
        job = multiprocessing.Process(target=_noted, args=(path, ready))
        job.start()
        assert ready.wait(60) and job.pid is not None
        reader = Reader(store)
        progress = reader.read()
        assert [each.pid for each in progress.working] == [job.pid] and not progress.failed
        os.kill(job.pid, signal.SIGKILL)
        job.join()
        progress = reader.read()
        (failed,) = progress.failed
        assert not progress.working and "without a word" in failed.reason
        # The next try counts, not the one before.
        with jobs.noted(path):
            assert not reader.read().failed and len(reader.read().working) == 1


def _noted(path: Path, ready: Event) -> None:
    with jobs.noted(path):
        ready.set()
        time.sleep(600)


def _exit(status: object) -> Callable[[], None]:
    def end() -> None:
        raise SystemExit(status)

    return end


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("work", "status", "reason"),
    [
        (_exit(0), "done", ""),
        (_exit(None), "done", ""),
        (_exit(1), "failed", "the last that it said"),
        (_exit(128 + signal.SIGKILL), "failed", "killed by SIGKILL"),
        (_exit(128 + signal.SIGTERM), "stopped", "stopped by SIGTERM"),
        (_interrupt, "stopped", "stopped by SIGINT"),
    ],
)
def test_how_a_job_ended(work: Callable[[], None], status: str, reason: str, store: Path) -> None:
    begin(store)
    path = log_of(store, "search", ONE)
    path.write_text("first\nthe last that it said\n")
    with pytest.raises((SystemExit, KeyboardInterrupt)), jobs.noted(path):
        work()
    job = jobs.read_job(path.with_suffix(".json"))
    assert (job.status, job.reason) == (status, reason)
    assert jobs.OWN not in os.environ


def test_a_stage_that_no_run_started_notes_nothing(tmp_path: Path) -> None:
    path = log_of(tmp_path, "search", ONE)
    with jobs.noted(path), jobs.noted(None):
        jobs.note(device="GPU 1")
    assert [*path.parent.iterdir()] == [path]


def test_an_edited_note_of_a_run_is_no_run(store: Path) -> None:
    begin(store)
    path = store / jobs.RUN
    path.write_text(path.read_text().replace('"loss_limit": 0.02', '"loss_limit": 0.03'))
    assert Reader(store).read().state == "none"


def text(progress: Progress, width: int, height: int | None = None) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, highlight=False)
    console.print(view.rendered(progress, console if height else None))
    return out.getvalue().splitlines()


def many(count: int) -> Progress:
    """A run with so many searches at once, of six cells each."""
    titles = ["DeepCache", "T-Gate", "ToMe", "DeepCache and ToMe", "DeepCache, T-Gate, and ToMe"]
    from diffaccel.run.progress import Best, CellProgress

    slugs = [f"mini-SDXL_UniPCMultistepScheduler_{number}" for number in range(20, 20 + count)]
    cells = tuple(
        CellProgress(title, 12, 60, Best(slugs[0], title, 2.5, 0.01), False) for title in titles
    )
    working = tuple(
        Job("search", slug, "run", "node7", 1, 0.0, f"logs/search/{slug}.log", device="GPU 3")
        for slug in slugs
    )
    lost = replace(working[0], status="failed", reason="out of memory", stage="verify")
    return Progress(
        "results/cpu",
        "going",
        host="here",
        log="run.log",
        seconds=7500,
        cells=162,
        cells_done=60,
        measured=1234,
        best=cells[-1].best,
        left=Left(3600.0),
        configurations={slug: cells for slug in slugs},
        working=working,
        failed=(lost,),
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_view_fits_the_terminal(width: int) -> None:
    for count in (1, 3, 40):
        lines = text(many(count), width, 24)
        assert len(lines) < 24 and max(map(len, lines)) <= width, "\n".join(lines)
        whole = " ".join(" ".join(lines).split())
        assert "60 of 162" in whole and "about 1 h 00 min" in whole and "out of memory" in whole
    assert any(line.startswith("  DeepCache and ToMe") for line in text(many(1), width, 24))
    assert "60 candidates" in "\n".join(text(many(3), 120, 24))
    assert "more jobs" in "\n".join(text(many(40), width, 24))
    assert "GPU 3 on node7" in "\n".join(text(many(1), 120))


def test_what_was_verified_is_counted(store: Path) -> None:
    with stores.hold(store):
        begin(store, stages=("verify",))
        pairs = zip(("met", *get_args(Outcome)), (*get_args(Outcome), "undecided"), strict=True)
        outcomes = [{"outcome": asked, "kept": found} for asked, found in pairs]
        write_json(store / "verify" / f"{ONE.slug}.json", {"results": outcomes})
        done(store, "verify", ONE, 5)
        said = "\n".join(events.Events().news(Reader(store).read()))
    assert (
        "4 scripts, 2 as fast as was asked (for 1 the timings are too few to tell), 1 as fast as"
        in said
    )


def test_a_failure_names_cell_reason_and_log() -> None:
    (line,) = (line for line in events.Events().news(many(1)) if line.startswith("failed"))
    assert line == (
        "failed: verification of mini-SDXL, UniPCMultistepScheduler, 20 steps: out of memory (log: "
        "logs/search/mini-SDXL_UniPCMultistepScheduler_20.log)"
    )


def test_nothing_is_said_twice() -> None:
    lines = events.Events()
    assert len([*lines.news(many(1))]) == 2 and not [*lines.news(many(1))]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.2, "under 1 s"), (59, "59 s"), (60, "1 min"), (150, "2 min 30 s"), (596, "10 min")),
        (3570, "1 h 00 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
