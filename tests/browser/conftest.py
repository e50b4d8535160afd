"""Results that were not measured, and their pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffaccel.evaluation.gallery import KEPT, Gallery
from diffaccel.evaluation.records import Measurement, Timing
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.accelerators import combination
from diffaccel.report import blind, page
from diffaccel.search import pareto
from diffaccel.search.answers import unparsed
from diffaccel.search.records import Answer, Search
from diffaccel.stages.records import HeldOut, ScriptResult, Verification
from diffaccel.store.jsonio import read_record, write_record
from tests import store
from tests.browser import tab

HOSTILE = '</script><script>window.hurt=1</script><img src=x onerror="window.hurt=1">'
"""A prompt that must stay a text."""
MODELS = ["mini-SD1.5", "mini-SD2.1", "mini-SDXL"]
CELLS = [
    ("deepcache",),
    ("tgate",),
    ("tome",),
    ("deepcache", "tome"),
    ("deepcache", "tgate"),
    ("deepcache", "tgate", "tome"),
]
TARGETS = [1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0]


def candidates(names: tuple[str, ...]) -> list[Measurement]:
    """Five of a cell, the last of them beyond the limit."""
    parts = {"deepcache": store.deepcache, "tgate": lambda n: store.tgate(12 - 2 * n)}
    tome = {"max_downsample": 1, "sx": 2, "sy": 2}
    rows, mild = [], 0.0001 * (1 + CELLS.index(names))
    for n in range(1, 6):
        parameters = {}
        for name in names:
            ratio = {"tome": {"ratio": 0.1 * n, **tome}}
            parameters |= parts[name](n + 1) if name in parts else ratio
        row = store.measurement(
            parameters, 1 + n * (0.2 + 0.07 * CELLS.index(names)), mild + 0.0001 * 3.2**n
        )
        timing = Timing([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], row.speedup, row.speedup, 0.01)
        rows.append(dataclasses.replace(row, timing=timing))
    return rows


def answer(cell: Cell, rows: list[Measurement], required: float) -> Answer:
    slug = f"{cell.slug}_{required}x"
    task = Task(slug, "target", cell, required, None, store.LIMIT, None)
    chosen = pareto.meet(rows, required, store.LIMIT)
    reason = "" if chosen else f"{required}x is above the bound"
    near = None if chosen else pareto.nearest(rows, required, store.LIMIT)
    return Answer(task, "met" if chosen else "infeasible", reason, chosen, near, None)


def images(folder: Path, configuration: Configuration, rows: list[Measurement], kept: int) -> None:
    """The baseline's and each candidate's, as a run leaves them."""
    baseline = store.baseline(configuration)
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 255, (KEPT, 16, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    (folder / "baseline" / configuration.slug).mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(plain):
        Image.fromarray(pixels).save(folder / "baseline" / configuration.slug / f"{number:03}.png")
    gallery = Gallery.beside(folder / "journal", baseline)
    for number, row in enumerate(rows if kept else []):
        gallery.keep(row.parameters, (plain // (number % 5 + 1))[:kept])


def write_configuration(folder: Path, configuration: Configuration, kept: int) -> None:
    """The records of a configuration: six cells, seven targets each, a script, and its
    verification; with some of each candidate's images."""
    cells = {names: candidates(names) for names in CELLS}
    answers = [
        answer(Cell(configuration, names), rows, each)
        for names, rows in cells.items()
        for each in TARGETS
    ]
    store.write(folder.parent, configuration, cells, platform=folder.name, answers=answers)
    baseline = store.baseline(configuration)
    prompts = [HOSTILE, *baseline.prompts[1:]]
    hostile = dataclasses.replace(baseline, prompts=prompts)
    write_record(folder / "baseline" / f"{configuration.slug}.json", hostile)
    path = folder / "search" / f"{configuration.slug}.json"
    found = read_record(Search, path)
    beside = [dataclasses.replace(cell, baseline=hostile.whole) for cell in found.cells]
    write_record(path, dataclasses.replace(found, cells=beside))
    images(folder, configuration, [row for rows in cells.values() for row in rows], kept)
    met = next(each for each in answers if each.status == "met")
    script = folder / "code" / f"{met.task.id}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f'"""A script\n\nof {configuration.slug}."""\n\nTEXT = "</script>"  # <b>\n')
    held = HeldOut(True, "", 0.01, (0.0, 0.02), {})
    verdict = ScriptResult(
        *(met.task.id, "x", "met", 0.95, "", 1.2, None, store.LIMIT, 1.3, 0.001, 1.31, 0.5, 0.001),
        *((0.0, 0.002), None, {}, True, "2026-11-21", held),
    )
    write_record(
        folder / "verify" / f"{configuration.slug}.json", Verification(configuration, [verdict])
    )


def write_full(folder: Path) -> None:
    """The grid: 27 configurations, 162 cells, 1134 targets."""
    for model in MODELS:
        for scheduler in ("DDIM", "DPM-Solver++", "UniPCMultistepScheduler"):
            for steps in (20, 25, 50):
                kept = int(scheduler == "DDIM")
                write_configuration(folder, Configuration(model, scheduler, steps), kept)


def write_part(folder: Path) -> None:
    """A run that failed in part: of three configurations one was searched, one is half a file and
    one left nothing but its log; and a sentence was not understood."""
    write_configuration(folder, Configuration("mini-SD1.5", "DDIM", 20), KEPT)
    broken = folder / "search" / "mini-SD1.5_DDIM_25.json"
    broken.write_text('{"schema": 1, "cells": [', encoding="utf-8")
    log = folder / "logs" / "search" / "mini-SD1.5_DDIM_50.log"
    log.parent.mkdir(parents=True)
    log.write_text("loading\nout of memory\n", encoding="utf-8")
    asked = Task("user1", "user", None, None, None, 0.02, "faster, please", "no model is named")
    write_record(folder / "search" / "misunderstood.json", Search(None, [], [unparsed(asked)]))


def write_unclear(folder: Path) -> None:
    """Two configurations: of one the fastest is not clear, and fewer steps win; of the other all
    is."""
    cache = ("deepcache",)
    doubted = store.measurement(store.deepcache(6), 3.5, 0.015, high=0.04)
    scores = {"clip_score": [80.0, 77.6, 80.0, 77.6]}
    doubted = dataclasses.replace(doubted, scores=scores)
    clear = store.measurement(store.deepcache(3), 1.8, 0.004)
    configuration = Configuration("mini-SD1.5", "DDIM", 20)
    task = Task("t", "target", Cell(configuration, cache), 1.2, None, store.LIMIT, None)
    answers = [Answer(task, "met", "", clear, None, None)]
    store.write(
        folder.parent, configuration, {cache: [clear, doubted]}, platform="unclear", answers=answers
    )
    path = folder / "search" / f"{configuration.slug}.json"
    found = read_record(Search, path)
    fewer = Cell(configuration, ("fewer_steps",))
    fewer_steps = store.frontier(
        fewer, [store.measurement({"fewer_steps": {"steps": 9}}, 2.1, 0.003)]
    )
    bound = dataclasses.replace(found.cells[0], clear=False)
    write_record(path, dataclasses.replace(found, cells=[bound], fewer_steps=fewer_steps))
    other = Configuration("mini-SD2.1", "DDIM", 20)
    store.write(folder.parent, other, {cache: [clear]}, platform="unclear", answers=[])


def write_worst(folder: Path) -> None:
    """An answer whose images were scored and compared by eye; and another, that is clear, without
    scores."""
    configuration, cache = Configuration("mini-SD1.5", "DDIM", 20), store.deepcache(3)
    scores = {"clip_score": [80.0, 80.0, 60.0, 80.0], "psnr": [30.0, 9.0, 40.0, 20.0]}
    row = store.measurement(cache, 1.8, 0.004)
    clear = dataclasses.replace(row, scores=scores, means={"psnr": 24.75})
    gated = store.measurement(store.tgate(9), 1.5, 0.003)
    cells = {("deepcache",): [clear], ("tgate",): [gated]}
    store.write(folder.parent, configuration, cells, platform=folder.name)
    images(folder, configuration, [clear, gated], KEPT)
    session = blind.Session(blind.answers_in(folder), folder / "journal")
    while shown := session.shown():
        session.say(shown.name, "same")


SETS = {
    "empty": lambda folder: folder.mkdir(),
    "part": write_part,
    "full": write_full,
    "unclear": write_unclear,
    "worst": write_worst,
}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each set of results, in its folder."""
    made = {}
    for name, write in SETS.items():
        folder = tmp_path_factory.mktemp("results") / name
        write(folder)
        made[name] = page.write(folder)
    return made


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    if not tab.there():
        pytest.skip("needs chromium and chromium-driver")
    with tab.chromium() as made:
        yield made


def title(names: tuple[str, ...]) -> str:
    return combination(names).title
