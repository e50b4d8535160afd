"""Measures tables: every candidate evaluated, by many processes at once; some timed, alone.

What was measured is kept in journals as the workflow keeps them (``CONFIGURATION.json`` and its
images, ``evaluations/``, ``timed/``), row by row: a run that was stopped goes on, and loses what
was in flight.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.search.spaces import Point, far_apart, recorded, spanned
from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import MeasureOptions, SearchOptions
from diffaccel.machine import devices, gpus
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.plugins.space import ParametersDict, nest
from diffaccel.search.cell import CellSearch
from diffaccel.search.measuring import opened
from diffaccel.store.jsonio import digest, read_record, write_record

if TYPE_CHECKING:
    from diffaccel.evaluation.calls import Bench, Candidate
    from diffaccel.plugins.metrics.base import Images

log = logging.getLogger(__name__)

ROUND = 16
"""Candidates that are timed in the same rounds."""
Claim = Callable[[], int]
"""The number of the next candidate to evaluate; each is given once."""


@dataclass(frozen=True)
class Plan:
    """What a table of one configuration holds.

    Args:
        points: what is evaluated, by cell.
        timed: what of it is timed.
        folder: where journals, baselines and images are kept.
    """

    configuration: Configuration
    spec: ModelSpec
    options: MeasureOptions
    points: dict[Cell, list[Point]]
    timed: dict[Cell, list[Point]]
    folder: Path

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        options: MeasureOptions,
        cells: Sequence[Cell],
        folder: Path,
        fewest: int | None,
        timed: int | None,
        small: bool = False,
    ) -> Plan:
        """Plans a configuration.

        Args:
            cells: of one configuration, whose model lies in a local folder.
            fewest: candidates of a combination, at least; None: its coarse grid.
            timed: candidates of a cell that are timed, spread over its space; None: all.
            small: of fewer values, see `spaces.SMALL`.
        """
        configuration, spec = cells[0].configuration, FAMILIES[spec.family].fetch(spec).spec
        pipeline = facts_of(spec, configuration.steps)
        cells = [cell for cell in cells if combination(cell.accelerators).supports(pipeline)[0]]
        points, some = {}, {}
        for cell in cells:
            members = combination(cell.accelerators)
            space = members.space(pipeline)
            every = recorded(members, pipeline, fewest, small=small)
            points[cell] = some[cell] = every
            if timed is not None:
                some[cell] = far_apart(spanned(every, space.axes), every, timed)
        return cls(configuration, spec, options, points, some, folder)

    @property
    def candidates(self) -> list[tuple[Cell, ParametersDict]]:
        return [(cell, nest(point)) for cell, points in self.points.items() for point in points]

    @property
    def record(self) -> Path:
        return self.folder / f"{self.configuration.slug}.json"

    @property
    def images(self) -> Path:
        return self.folder / self.configuration.slug

    @contextlib.contextmanager
    def known(self) -> Iterator[dict[Cell, CellSearch]]:
        """What was measured, by cell; of no cell where there is no baseline yet."""
        if not self.record.exists():
            yield {}
            return
        baseline, whole = read_record(Baseline, self.record), SearchOptions("exhaustive")
        with opened(list(self.points), baseline, self.images, self.folder, whole) as (cells, _):
            yield {each.cell: each for each in cells}

    def unevaluated(self) -> list[tuple[Cell, ParametersDict]]:
        """What is still to be evaluated."""
        with self.known() as known:
            return [
                (cell, parameters)
                for cell, parameters in self.candidates
                if not known or digest(parameters) not in known[cell].history.evaluations
            ]

    def untimed(self) -> dict[Cell, list[ParametersDict]]:
        """What is still to be timed, of what was evaluated and did not fail; the order is
        drawn at random."""
        left: dict[Cell, list[ParametersDict]] = {}
        with self.known() as known:
            for cell, each in known.items():
                good = {key for key, row in each.history.evaluations.items() if row.scores}
                good -= each.history.speeds.timings.keys()
                wanted = [nest(point) for point in self.timed[cell]]
                wanted = [parameters for parameters in wanted if digest(parameters) in good]
                order = np.random.default_rng(0).permutation(len(wanted))
                left[cell] = [wanted[i] for i in order]
        return left


def facts_of(spec: ModelSpec, steps: int) -> PipelineSpec:
    """The pipeline spec of a pipeline in a local folder, from its configuration alone."""
    index, unet, vae = (
        json.loads((Path(spec.source) / name).read_text(encoding="utf-8"))
        for name in ("model_index.json", "unet/config.json", "vae/config.json")
    )
    return PipelineSpec.of_config(
        index["_class_name"],
        unet,
        steps=steps,
        guidance_scale=spec.guidance_scale,
        size=(spec.height, spec.width),
        vae=vae,
    )


@dataclass(frozen=True)
class Opened:
    """A plan's configuration, loaded, with its baseline."""

    plan: Plan
    bench: Bench
    baseline: Baseline
    references: Images

    @classmethod
    def of(cls, plan: Plan, device: devices.Device) -> Opened:
        """Loads a configuration; measures its baseline where no process has yet."""
        from diffaccel.evaluation import bench
        from diffaccel.evaluation.baseline import run_baseline

        made = bench.open_bench(plan.configuration, plan.spec, plan.options, device)
        plan.folder.mkdir(parents=True, exist_ok=True)
        with plan.record.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not plan.record.exists():
                record, images = run_baseline(made)
                bench.save_images(plan.images, images)
                write_record(plan.record, record)
        baseline = read_record(Baseline, plan.record)
        bench.check_same(made, baseline)
        made.call(made.baseline, made.batches()[0])  # warm-up
        return cls(plan, made, baseline, bench.load_images(plan.images, baseline))

    def candidate(self, parameters: ParametersDict, *, warm: bool = False) -> Candidate:
        from diffaccel.evaluation.calls import Candidate

        return Candidate(parameters, functools.partial(self.bench.accelerated, parameters), warm)

    def evaluate(self, parameters: ParametersDict) -> Evaluation:
        """What a candidate generates. Where the experiment names metrics, all values of each image
        are kept; else a table needs no more than the means of other metrics than the score."""
        from diffaccel.evaluation.candidates import evaluate

        made = evaluate(self.bench, self.baseline, self.references, self.candidate(parameters))
        if self.plan.spec.metrics:
            return made
        kept = {name: values for name, values in made.scores.items() if name == SCORE}
        return dataclasses.replace(made, scores=kept)

    def time_candidates(self, searches: dict[Cell, CellSearch], deadline: float) -> bool:
        """Times what is left of the plan, in rounds; whether all of it was done in time.

        The first round of a cell is called once before it is timed; after that the device has
        prepared what such candidates need.
        """
        from diffaccel.evaluation.timing import time_candidates

        longest = 0.0
        for cell, candidates in self.plan.untimed().items():
            for first in range(0, len(candidates), ROUND):
                start = time.perf_counter()
                if start + longest > deadline:
                    return False
                chosen = candidates[first : first + ROUND]
                opened = [self.candidate(each, warm=first > 0) for each in chosen]
                for row in time_candidates(self.bench, opened, self.references):
                    searches[cell].history.speeds.add(row)
                longest = max(longest, time.perf_counter() - start)
                log.info("%s: timed %d of %d", cell.slug, first + len(chosen), len(candidates))
        return True


def evaluate_all(
    plans: Sequence[Plan], claims: Sequence[Claim], jobs: int, deadline: float
) -> None:
    """Evaluates, plan after plan, what no other process has claimed, until the deadline.

    Args:
        claims: one a plan, shared by all processes.
        jobs: how many processes are on a GPU at once.
        deadline: being timed of `time.perf_counter`, which all processes share.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with devices.hold_device(jobs) as device:
        for plan, claim in zip(plans, claims, strict=True):
            left = plan.unevaluated()
            if left and time.perf_counter() < deadline:
                _evaluate(Opened.of(plan, device), claim, deadline)


def _evaluate(opened: Opened, claim: Claim, deadline: float) -> None:
    candidates = opened.plan.candidates
    with opened.plan.known() as known:
        while time.perf_counter() < deadline and (number := claim()) < len(candidates):
            cell, parameters = candidates[number]
            if digest(parameters) not in known[cell].history.evaluations:
                known[cell].history.journal.append(opened.evaluate(parameters))


@dataclass(frozen=True)
class Counter:
    """Counts for several processes: each number is given to one of them.

    Args:
        path: of the file that holds the next.
    """

    path: Path

    def __call__(self) -> int:
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or 0)
            file.truncate(0)
            file.write(str(number + 1))
            return number


@contextlib.contextmanager
def shared_gpu(wanted: bool) -> Iterator[None]:
    """CUDA's multi-process service for the processes that are started meanwhile: what they ask of a
    GPU runs side by side there, and not in turns. Nothing where it is not wanted or not installed.

    Source: NVIDIA's documentation of the Multi-Process Service.
    """
    control = "nvidia-cuda-mps-control"
    if not (wanted and shutil.which(control)):
        if wanted:
            log.info("%s is not installed: the processes take turns on the GPU", control)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        mine = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        subprocess.run([control, "-d"], check=True, env=os.environ | mine)
        os.environ.update(mine)
        try:
            yield
        finally:
            for name in mine:
                del os.environ[name]
            subprocess.run([control], input="quit\n", text=True, env=os.environ | mine)


def record(plans: Sequence[Plan], workers: int, seconds: float, *, share: bool = False) -> bool:
    """Evaluates what is missing with so many processes a GPU, then times in this one.

    Args:
        share: whether processes that evaluate share a GPU by CUDA's multi-process service, if it is
            installed; it has ended before anything is timed.

    Returns:
        Whether everything is measured.

    Raises:
        RuntimeError: a process that evaluates has failed.
    """
    deadline = time.perf_counter() + seconds
    context = multiprocessing.get_context("spawn")
    todo = [plan for plan in plans if plan.unevaluated()]
    if todo:
        claims = [Counter(plan.folder / f"{plan.configuration.slug}.next") for plan in todo]
        for claim in claims:
            claim.path.unlink(missing_ok=True)
        count = workers * max(1, len(gpus.visible()))
        drawers = [
            context.Process(target=evaluate_all, args=(todo, claims, workers, deadline))
            for _ in range(count)
        ]
        with shared_gpu(share):
            for each in drawers:
                each.start()
            _watch(todo, drawers)
        if any(each.exitcode for each in drawers):
            raise RuntimeError("a process that evaluates has failed; its error stands above")
    if any(plan.unevaluated() for plan in plans):
        return False
    todo = [plan for plan in plans if any(plan.untimed().values())]
    return not todo or _time(todo, deadline)


def _time(plans: Sequence[Plan], deadline: float) -> bool:
    """Times what is left, plan after plan; whether all of it was done before the deadline."""
    with devices.hold_device() as device:
        for plan in plans:
            if time.perf_counter() > deadline:
                return False
            with plan.known() as known:
                if not Opened.of(plan, device).time_candidates(known, deadline):
                    return False
    return True


def _watch(plans: Sequence[Plan], drawers: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Says every half minute how many candidates are left, until the processes have ended."""
    start, before = time.perf_counter(), sum(len(plan.unevaluated()) for plan in plans)
    log.info("%d candidates to evaluate in %d processes", before, len(drawers))
    while any(each.is_alive() for each in drawers):
        next(each for each in drawers if each.is_alive()).join(30)
        left, took = sum(len(plan.unevaluated()) for plan in plans), time.perf_counter() - start
        log.info("%d left, %.2f a second", left, (before - left) / took)
