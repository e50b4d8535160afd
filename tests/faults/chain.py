"""The chain, from the model to verified scripts, on an embedded network that takes seconds.

Every job is the real one, a process that does what a rule's command does; what starts them is not
Snakemake but a few lines that do the same: what is missing is made, its outputs deleted before, and
whatever is made from it after. A process that has loaded the libraries forks into each, so that
none of them has to: so many faults can be injected in little time. (`tests.faults.kinds` has some
for the real Snakemake, too.)
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NoReturn

import yaml

from diffaccel.cli import main
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.plugins.space import ParametersDict
from diffaccel.run import stores
from diffaccel.search.records import Search
from diffaccel.stages import collect, database
from diffaccel.store.jsonio import read_record

ROOT = Path(__file__).parents[2]

EXPERIMENT: dict[str, Any] = {
    "models": [
        {
            "name": "mini-SD1.5",
            "height": 64,
            "width": 64,
            "batch_size": 3,
            "prompts": str(Path(__file__).parent / "prompts.txt"),
        }
    ],
    "schedulers": ["DDIM"],
    "steps": [2],
    "accelerators": ["DeepCache"],
    "speedups": [50.0],
    "loss_limit": 0.5,
    "fewer_steps_baseline": False,
    "platform": "cpu",
    "measure": {"prompts": 3, "max_prompts": None, "pairs": 1, "max_pairs": 1},
    "search": {"strategy": "exhaustive", "space": "grid", "call_seconds": 60.0},
    "verify": {"heldout": 0, "max_pairs": 1},
}
"""Every candidate of one accelerator is evaluated and timed, so that what is measured does not hang
being timed."""
Hook = Callable[[], None] | None
CONFIGURATION = "mini-SD1.5_DDIM_2"
PATIENCE_SECONDS = 300.0


def warm_up(folder: Path) -> None:
    """Loads what the jobs need into this process, which then forks into them: it measures a
    baseline and puts an accelerator on. One thread, of which a fork has as many."""
    import torch

    from diffaccel.evaluation import bench
    from diffaccel.evaluation.baseline import run_baseline
    from diffaccel.machine import devices
    from diffaccel.report import picture  # noqa: F401
    from diffaccel.stages import verify  # noqa: F401

    torch.set_num_threads(1)
    experiment = Experiment(config.load(EXPERIMENT))
    configuration = experiment.configurations[CONFIGURATION]
    with devices.hold_device() as device:
        made = bench.open_bench(
            configuration, experiment.spec(configuration), experiment.options, device
        )
        bench.save_images(folder, run_baseline(made)[1])
        parameters: ParametersDict = {"deepcache": {"cache_interval": 2, "cache_branch_id": 0}}
        with made.accelerated(parameters) as generate:
            generate(made.prompts, [0] * len(made.prompts))


@dataclass(frozen=True)
class Project:
    """A folder with an experiment and its results."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, **changes: Any) -> Project:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resources").symlink_to(ROOT / "resources")
        project = cls(folder)
        project.configure(**changes)
        return project

    def configure(self, **changes: Any) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(EXPERIMENT | changes))

    @property
    def results(self) -> Path:
        return self.folder / "results" / "cpu"

    @property
    def output(self) -> str:
        """What all runs and jobs have said."""
        path = self.folder / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, before: Hook = None, first: Hook = None) -> int:
        """A run in a process group of its own; its id, which is the group's.

        Args:
            before: called in the process of each job before it does anything.
            first: called in the process of the run.
        """
        if run := os.fork():
            return run
        _become(lambda: _run(self, before, first), self.folder)

    def run(self, before: Hook = None, first: Hook = None) -> int:
        """Exit status of a run."""
        return ended(self.start(before, first))

    def job(self) -> int | None:
        """Process of the job that is going on, if any."""
        try:
            return int((self.folder / "job").read_text() or 0) or None
        except FileNotFoundError:
            return None


def ended(run: int) -> int:
    """Exit status of a run, once it has ended; negative for a signal.

    Raises:
        AssertionError: it does not end.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(run, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(run, signal.SIGKILL)
    os.waitpid(run, 0)
    raise AssertionError("the run hung")


def _become(work: Callable[[], int], folder: Path) -> NoReturn:
    """Does nothing else in this forked process any more."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        said = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number in (1, 2):
            os.dup2(said, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        logging.root.handlers.clear()
        status = work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 71
    finally:
        sys.stderr.flush()
        os._exit(status)


@dataclass(frozen=True)
class Job:
    """What a rule makes, and how."""

    outputs: list[Path]
    work: Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """The rules, one after the other."""

    experiment: Experiment
    results: Path

    @cached_property
    def found(self) -> Search:
        return read_record(Search, self.results / "search" / f"{CONFIGURATION}.json")

    @property
    def met(self) -> list[str]:
        names = {answer.task.id for answer in self.found.answers if answer.status == "met"}
        return [name for name in self.experiment.tasks if name in names]

    def jobs(self) -> Iterator[Job]:
        r = self.results
        model, baseline = r / "models/mini-SD1.5.json", r / f"baseline/{CONFIGURATION}.json"
        search, images = r / f"search/{CONFIGURATION}.json", r / f"baseline/{CONFIGURATION}"
        verification = r / f"verify/{CONFIGURATION}.json"
        yield self._command("model", [model], job=self.experiment.model_job("mini-SD1.5"))
        yield self._command(
            "baseline",
            [baseline, images],
            job=self.experiment.baseline_job(CONFIGURATION),
            model=model,
            images=images,
            kept=r / f"journal/baseline/{CONFIGURATION}",
        )
        beside = {"baseline": baseline, "images": images}
        job = self.experiment.search_job(CONFIGURATION)
        yield self._command("search", [search], job=job, journals=r / "journal", **beside)
        yield Job([b := r / database.BOUNDS], lambda: database.bounds(r, b))
        yield Job([p := r / database.PARAMS], lambda: database.params(r, p))
        asked = self.experiment.listed
        t, f = r / "tasks/tasks.json", r / f"feasible/{CONFIGURATION}.txt"
        yield Job([t], lambda: collect.tasks(asked, collect.load([search]), t))
        yield Job([f], lambda: collect.feasible(search, f))
        for name in self.met:
            script = r / f"code/{name}.py"
            yield self._command("code", [script], task=name, found=search, baseline=baseline)
        yield self._command(
            "verify",
            [verification],
            found=search,
            scripts=[r / f"code/{name}.py" for name in self.met],
            journal=r / f"journal/verify/{CONFIGURATION}.jsonl",
            job=self.experiment.verify_job(CONFIGURATION),
            **beside,
        )
        s = r / "summary.csv"
        yield Job([s], lambda: collect.write_summary(collect.load([search]), [verification], s))

    def _command(self, stage: str, outputs: list[Path], **given: Any) -> Job:
        words = [stage, "--out", str(outputs[0]), "--log", str(self.results / f"logs/{stage}.log")]
        for name, value in given.items():
            value = json.dumps(value) if name == "job" else value
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
        return Job(outputs, lambda: main(words))


def _run(project: Project, before: Hook, first: Hook) -> int:
    """What snakemake does, with one job at a time."""
    if first is not None:
        first()
    held = stores.hold(project.results)
    stores.set_aside(project.results)
    experiment = Experiment(config.read(project.folder / "config.yaml"))
    made = False
    for job in Plan(experiment, Path("results/cpu")).jobs():
        if made or not all(path.exists() for path in job.outputs):
            made = True
            for path in job.outputs:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if (status := _done(project, job, before, held)) != 0:
                return status
    held.close()
    return 0


def _done(project: Project, job: Job, before: Hook, held: IO[str]) -> int:
    """Exit status of a job, a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held.close()
            if before is not None:
                before()
            job.work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status)
    (project.folder / "job").write_text(str(child))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (project.folder / "job").unlink(missing_ok=True)
    return status
