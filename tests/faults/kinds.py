"""The faults, one function each: it does harm to a project and says what became of it.

`FAULTS` has them by name; ``docs/explanation/trust.md`` has a line for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from diffaccel.evaluation.calls import Bench
from diffaccel.run import listing
from diffaccel.store.jsonio import digest
from tests.faults.chain import EXPERIMENT, ROOT, Project, ended
from tests.faults.suite import Case, Outcome, Row, rows, wait_until


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Args:
        times: how many are injected in the full form.
        seconds: that one takes, about.
        short: whether it is in the short form, too.
        needs: why it cannot be tried here, or None.
    """

    name: str
    inject: Callable[[Case], Outcome]
    times: int
    seconds: int
    short: bool
    needs: Callable[[], str | None]


FAULTS: dict[str, Fault] = {}
STOPPED_SECONDS = 120.0
"""After which a run that was told to stop counts as going on."""
Inject = Callable[[Case], Outcome]


def fault(
    times: int,
    seconds: int,
    *,
    short: bool = False,
    needs: Callable[[], str | None] = lambda: None,
) -> Callable[[Inject], Inject]:
    """Adds a function to `FAULTS`; its name is the fault's."""

    def add(inject: Inject) -> Inject:
        name = inject.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, inject, times, seconds, short, needs)
        return inject

    return add


# Signals


def _struck(case: Case, strike: Callable[[int], object]) -> tuple[bool, set[Row]]:
    """Starts a run and strikes at a moment that is evaluated: when so many rows were measured or so
    many jobs were begun, and a little later. Whether it hit, and what was there then."""
    project, rng = case.project, case.rng
    before = set(rows(project))
    left = len(set(rows(case.bench.reference))) - len(before)
    run = project.start()
    if left > 0 and rng.random() < 0.6:
        count = len(before) + rng.randrange(left)
        ready = wait_until(lambda: _over(run) or len(set(rows(project))) >= count, 120)
    else:
        begun, jobs = rng.randrange(1, 8), set[int]()

        def so_many() -> bool:
            jobs.add(project.job() or 0)
            return len(jobs - {0}) >= begun

        ready = wait_until(lambda: _over(run) or so_many(), 120)
    time.sleep(rng.uniform(0, 0.3))
    hit = ready and not _over(run)
    try:
        if hit:
            strike(run)
    except (ProcessLookupError, FileNotFoundError):
        hit = False
    ended(run)
    return hit, before | (set(rows(project)) if hit else set())


def _over(run: int) -> bool:
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, run, flags) is not None


def _to_job(project: Project, number: int) -> None:
    os.kill(_job(project), number)


def _job(project: Project) -> int:
    """Raises ProcessLookupError where there is none."""
    if job := project.job():
        return job
    raise ProcessLookupError


def _signal_job(case: Case, number: int) -> Outcome:
    project = case.at()
    hit, kept = _struck(case, lambda _: _to_job(project, number))
    return case.after(kept, injected=hit)


def _signal_run(case: Case, number: int) -> Outcome:
    case.at()
    hit, kept = _struck(case, lambda run: os.killpg(run, number))
    return case.after(kept, injected=hit)


@fault(14, 20, short=True)
def kill_job(case: Case) -> Outcome:
    return _signal_job(case, signal.SIGKILL)


@fault(8, 20)
def terminate_job(case: Case) -> Outcome:
    return _signal_job(case, signal.SIGTERM)


@fault(8, 15)
def interrupt_job(case: Case) -> Outcome:
    return _signal_job(case, signal.SIGINT)


@fault(10, 15)
def kill_run(case: Case) -> Outcome:
    return _signal_run(case, signal.SIGKILL)


@fault(8, 15)
def terminate_run(case: Case) -> Outcome:
    return _signal_run(case, signal.SIGTERM)


@fault(8, 10, short=True)
def interrupt_run(case: Case) -> Outcome:
    return _signal_run(case, signal.SIGINT)


@fault(8, 10, short=True)
def kill_work(case: Case) -> Outcome:
    """As the kernel does where memory ends: the process that computes, not the one that watches."""
    project = case.at()

    def strike(_: int) -> None:
        job = _job(project)
        children = Path(f"/proc/{job}/task/{job}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    hit, kept = _struck(case, strike)
    return case.after(kept, injected=hit)


@fault(10, 20, short=True)
def kill_master(case: Case) -> Outcome:
    """The run dies, its job goes on, and the next run starts meanwhile."""
    case.at()
    hit, kept = _struck(case, lambda run: os.kill(run, signal.SIGKILL))
    return case.after(kept, injected=hit)


@fault(14, 15, short=True)
def kill_in_a_write(case: Case) -> Outcome:
    """Killed where a file is written: a part of it is on disk, and no more."""
    project = case.at()
    before, left = set(rows(project)), case.rng.randrange(1, 20)
    real, rng = os.fsync, case.rng
    calls = project.folder / "calls"

    def fsync(handle: int) -> None:
        with calls.open("a") as file:
            file.write("x")
        if calls.stat().st_size < left:
            real(handle)
        else:
            size = os.fstat(handle).st_size
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            last = size if path.suffix != ".jsonl" else len(path.read_bytes().splitlines()[-1])
            os.ftruncate(handle, size - rng.randrange(1, last + 1))
            os.kill(os.getpid(), signal.SIGKILL)

    def hook() -> None:
        os.fsync = fsync

    status = project.run(hook)
    return case.after(before | set(rows(project)), injected=status != 0, torn=1)


# Disks and permissions


def _no_mount() -> str | None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        try:
            _mount(folder, "64k")
            stack.callback(subprocess.run, ["umount", name], check=True)
            _mount(folder, "128k", "remount")
        except (OSError, subprocess.CalledProcessError):
            return "a small file system cannot be mounted: needs root"
    return None


def _mount(folder: Path, size: str, *more: str) -> None:
    options = ",".join([f"size={size}", *more])
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


@fault(10, 15, short=True, needs=_no_mount)
def full_disk(case: Case) -> Outcome:
    project = case.at()
    results = project.folder / "results"
    results.mkdir(exist_ok=True)
    aside = project.folder / "aside"
    results.rename(aside)
    results.mkdir()
    taken = sum(path.stat().st_size // 4096 + 1 for path in aside.rglob("*")) * 4096
    _mount(results, str(taken + case.rng.randrange(0, 50_000)))
    try:
        shutil.copytree(aside, results, dirs_exist_ok=True)
        before = set(rows(project))
        status = project.run()
        kept = before | set(rows(project))
        said = "No space left on device" in project.output
        crashed = "Traceback" in project.output
        _mount(results, "64m", "remount")
        found = case.after(kept, injected=status != 0, torn=1)
        if status and (crashed or not said):
            found.wrong.append(f"not said clearly: {project.output[-600:]}")
        return found
    finally:
        subprocess.run(["umount", str(results)], check=False)


def _without_privilege() -> None:
    """Root is asked for permissions, too, in this process from now on."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, data)
    overrides = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for index in (0, 1):
        data[index] &= ~overrides
    libc.capset(header, data)


@fault(14, 10, short=True)
def no_permission(case: Case) -> Outcome:
    project = case.at()
    kept = set(rows(project))
    inside = [project.results, *project.results.rglob("*")]
    chosen = case.rng.choice([path for path in inside if path.name != ".lock"] or [project.results])
    if not chosen.exists():
        chosen.mkdir(parents=True)
    mode = chosen.stat().st_mode
    chosen.chmod(0o555 if chosen.is_dir() else 0)
    try:
        status = project.run(first=_without_privilege)
        said = "Permission denied" in project.output
        crashed = "Traceback" in project.output
    finally:
        chosen.chmod(mode)
    found = case.after(kept, injected=status != 0)
    if status and (crashed or not said):
        found.wrong.append(f"not said clearly: {project.output[-600:]}")
    return found


# Files that are damaged


def _some_of(case: Case, content: bytes) -> bytes:
    """Damaged in a way that is evaluated: cut, emptied, overwritten, or one digit changed."""
    rng = case.rng
    way = rng.choice(["cut", "empty", "garbage", "digit", "digit"])
    if way == "cut":
        return content[: rng.randrange(len(content))]
    if way == "empty":
        return b""
    if way == "garbage":
        start = rng.randrange(len(content))
        return content[:start] + rng.randbytes(rng.randrange(1, 200)) + content[start + 20 :]
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    place = rng.choice(digits or [0])
    other = bytes([48 + (content[place] - 47) % 10])
    return content[:place] + other + content[place + 1 :]


def _results(project: Project) -> list[Path]:
    """What a run makes, but journals and logs."""
    files = [path for path in sorted(project.results.rglob("*")) if path.is_file()]
    left = ("journal", "logs", ".lock")
    return [p for p in files if p.relative_to(project.results).parts[0] not in left]


@fault(56, 3, short=True)
def damaged_result(case: Case) -> Outcome:
    """Any file of the results: truncated, emptied, garbage, or edited by hand."""
    project = case.done()
    kept = set(rows(project))
    path = case.rng.choice(_results(project))
    content = path.read_bytes()
    path.write_bytes(damaged := _some_of(case, content))
    return case.after(kept, injected=damaged != content)


@fault(24, 3, short=True)
def deleted_result(case: Case) -> Outcome:
    project = case.done()
    kept = set(rows(project))
    chosen = case.rng.choice([path for path in _results(project) if path.name != ".sha256"])
    chosen.unlink()
    return case.after(kept)


def _journal(case: Case) -> Path:
    project = case.at("half", "measured")
    return case.rng.choice(sorted(project.results.glob("journal/*/*.jsonl")))


@fault(16, 15, short=True)
def cut_journal(case: Case) -> Outcome:
    path = _journal(case)
    content = path.read_bytes()
    path.write_bytes(content[: case.rng.randrange(len(content))])
    return case.after(set(rows(case.project)), torn=1)


@fault(24, 10)
def garbage_in_a_journal(case: Case) -> Outcome:
    path, rng = _journal(case), case.rng
    content = path.read_bytes()
    start = rng.randrange(len(content) + 1)
    garbage = rng.choice([bytes(rng.randrange(1, 4096)), rng.randbytes(rng.randrange(1, 400))])
    path.write_bytes(content[:start] + garbage + content[start:])
    return case.after(set(rows(case.project)), torn=9)


@fault(18, 15, short=True)
def edited_journal(case: Case) -> Outcome:
    """One digit of a row is another; it is JSON still."""
    path = _journal(case)
    before = {row for row in rows(case.project)}
    content = path.read_bytes()
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    place = case.rng.choice(digits)
    number = content[:place].count(b"\n")
    other = bytes([48 + (content[place] - 47) % 10])
    path.write_bytes(content[:place] + other + content[place + 1 :])
    after = set(rows(case.project))
    found = case.after(before & after, torn=1)
    if after - before:
        found.wrong.append(f"{path.name}:{number + 1}: an edited row was read")
    return found


# Several at once


@fault(8, 25, short=True)
def two_runs_on_a_store(case: Case) -> Outcome:
    """At once, of one folder or of two that share their results."""
    project = case.at("nothing", "baseline", "half")
    kept = set(rows(project))
    other = Project.make(case.bench.folder / f"{project.folder.name}-other")
    project.results.mkdir(parents=True, exist_ok=True)
    (other.folder / "results").symlink_to(project.folder / "results")
    first = project.start()
    time.sleep(case.rng.uniform(0, 0.5))
    second = case.rng.choice([project, other])
    statuses = [ended(second.start()), ended(first)]
    found = case.after(kept | set(rows(project)), says="")
    said = "another run writes to" in project.output + other.output
    if sorted(map(bool, statuses)) != [False, True] or not said:
        found.wrong.append(f"statuses {statuses}")
    return found


# Candidates


Act = Callable[[Bench, Callable[..., Any], list[str], list[int]], Any]


def _unmeasured(case: Case) -> list[str]:
    """The candidates that are still to be measured."""
    every, known = (
        {
            digest(row.measured["parameters"])
            for row in listing.Store(results).rows(["evaluations", "timed"])
        }
        for results in (case.bench.reference.results, case.project.results)
    )
    return sorted(every - known)


def _candidates_do(targets: set[str], act: Act) -> Callable[[], None]:
    """Has the calls of some candidates do something else, beneath all that the product does."""

    def hook() -> None:
        real = Bench.accelerated

        @contextlib.contextmanager
        def accelerated(self: Bench, parameters: Any) -> Iterator[Any]:
            with real(self, parameters) as generate:
                if digest(parameters) in targets:
                    yield lambda prompts, seeds: act(self, generate, prompts, seeds)
                else:
                    yield generate

        Bench.accelerated = accelerated  # type: ignore[method-assign]

    return hook


def _candidate_fails(case: Case, act: Act, says: str, **changes: Any) -> Outcome:
    """It is a loss, and never an answer; all others are as ever."""
    project = case.at("nothing", "baseline", "half")
    project.configure(**changes)
    target = case.rng.choice(_unmeasured(case))
    status = project.run(_candidates_do({target}, act))
    found = case.after(set(rows(project)), failed=(target,), says=says)
    if status != 0:
        found.wrong.append(f"the run ended with {status}: {project.output[-600:]}")
    return found


@fault(14, 20, short=True)
def crashing_candidate(case: Case) -> Outcome:
    """It takes its process with it: a segmentation fault, an abort, an exit, or killed for memory
    each time that it is called."""
    ways: dict[str, Callable[[], Any]] = {
        "SIGSEGV": lambda: ctypes.string_at(0),
        "SIGABRT": os.abort,
        "an exit": lambda: os._exit(case.rng.choice([0, 1, 3])),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }
    name = case.rng.choice(sorted(ways))
    return _candidate_fails(case, lambda *_: ways[name](), name)


@fault(6, 25)
def hanging_candidate(case: Case) -> Outcome:
    """It does not come back, be it in Python or in native code that lets nobody else run."""
    ways: list[Callable[[], Any]] = [
        lambda: time.sleep(3600),
        lambda: ctypes.PyDLL(None).sleep(3600),
    ]
    way = case.rng.choice(ways)
    search = {**EXPERIMENT["search"], "call_seconds": 5.0}
    return _candidate_fails(case, lambda *_: way(), "a call took more than", search=search)


@fault(8, 30, short=True)
def not_a_number(case: Case) -> Outcome:
    """The network gives NaN; the images are then black."""

    def act(bench: Bench, generate: Any, prompts: Any, seeds: Any) -> Any:
        nan = float("nan")
        hook = bench.pipe.unet.register_forward_hook(
            lambda module, given, made: tuple(each * nan for each in made)
        )
        try:
            return generate(prompts, seeds)
        finally:
            hook.remove()

    return _candidate_fails(case, act, "images are blank")


@fault(6, 15)
def raising_candidate(case: Case) -> Outcome:
    def act(*_: Any) -> Any:
        raise RuntimeError("the size of tensor a (2) must match")

    return _candidate_fails(case, act, "RuntimeError: the size of tensor a")


def _only(size: int) -> Act:
    """What does not fit for more than so many images."""

    def act(bench: Bench, generate: Any, prompts: list[str], seeds: list[int]) -> Any:
        import torch

        if len(prompts) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(prompts, seeds)

    return act


@fault(6, 60, short=True)
def out_of_memory(case: Case) -> Outcome:
    """Of a candidate: it is evaluated and timed in smaller batches, and its record says so."""
    project, size = case.at("nothing", "baseline", "half"), case.rng.choice([1, 2])
    every = _unmeasured(case)
    targets = set(case.rng.sample(every, case.rng.randrange(1, len(every) + 1)))
    status = project.run(_candidates_do(targets, _only(size)))
    found = case.after(set(rows(project)), near=True)
    if status != 0:
        found.wrong.append(f"the run ended with {status}: {project.output[-600:]}")
    for row in listing.Store(project.results).rows(["evaluations", "timed"]):
        said = any("not enough memory" in each for each in row.measured["warnings"])
        if said != (digest(row.measured["parameters"]) in targets):
            found.wrong.append(
                f"{row.kind}: {row.measured['parameters']}: {row.measured['warnings']}"
            )
    return found


@fault(4, 20)
def out_of_memory_of_the_baseline_pipeline(case: Case) -> Outcome:
    """All of the configuration is measured with a batch that fits, and the baseline says so."""
    project, act = case.at("nothing"), _only(case.rng.choice([1, 2]))

    def hook() -> None:
        real = Bench.baseline

        @contextlib.contextmanager
        def baseline(self: Bench) -> Iterator[Any]:
            with real(self) as generate:
                yield lambda prompts, seeds: act(self, generate, prompts, seeds)

        Bench.baseline = baseline  # type: ignore[method-assign]

    status = project.run(hook)
    found = case.after(set(rows(project)), near=True, says="not enough memory for 3 images at once")
    if status != 0:
        found.wrong.append(f"the run ended with {status}: {project.output[-600:]}")
    return found


# What measuring needs


@fault(8, 20, short=True)
def scorer_that_cannot_load(case: Case) -> Outcome:
    project = case.at("nothing", "baseline", "half")
    kept = set(rows(project))
    scorer = project.folder / "scorer"
    shutil.copytree(ROOT / "resources/models/mini-clip", scorer)
    project.configure(models=[{**EXPERIMENT["models"][0], "scorer": "scorer"}])
    for name in ("models", "baseline"):
        shutil.rmtree(project.results / name, ignore_errors=True)
    needed = ["config.json", "model.safetensors", "tokenizer.json"]
    path = scorer / case.rng.choice(needed)
    content = path.read_bytes()
    if case.rng.random() < 0.4:
        path.unlink()
    else:
        path.write_bytes(content[: case.rng.randrange(len(content) // 2)])
    status = project.run()
    said = project.output
    path.write_bytes(content)
    found = case.after(kept, injected=status != 0)
    if status and ("Traceback" in said or "scorer" not in said):
        found.wrong.append(f"{path.name}: not said clearly: {said[-600:]}")
    return found


@fault(8, 15, short=True)
def jumping_clock(case: Case) -> Outcome:
    """The time of day jumps by days while it is measured, and files are from the future."""
    project, seed = case.at(), case.rng.random()
    kept = set(rows(project))

    def hook() -> None:
        rng, real = random.Random(seed), time.time

        def jumping() -> float:
            return real() + rng.uniform(-1e6, 1e6)

        time.time = jumping

    status = project.run(hook)
    for path in project.results.rglob("*"):
        then = time.time() + case.rng.uniform(-1e6, 1e6)
        os.utime(path, (then, then))
    found = case.after(kept | set(rows(project)))
    if status != 0:
        found.wrong.append(f"the run ended with {status}: {project.output[-600:]}")
    return found


# The same under the real Snakemake


RUN = ["diffaccel", "run"]
RAW = ["snakemake", "--snakefile", str(ROOT / "Snakefile")]


def _snakemake(project: Project, program: Sequence[str] = RUN) -> subprocess.Popen[bytes]:
    paths = [str(ROOT / "workflow"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (project.folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *program, "--cores", "1"],
            stdout=output,
            stderr=output,
            env=environment,
            cwd=project.folder,
            start_new_session=True,
        )


def _struck_snakemake(case: Case, strike: Callable[[int], object]) -> Outcome:
    """The same as `_struck`, and the next run is Snakemake's, too."""
    project = case.at("nothing", "half")
    shutil.rmtree(project.results / "baseline", ignore_errors=True)
    shutil.rmtree(project.results / "models", ignore_errors=True)
    before = set(rows(project))
    run = _snakemake(project)
    count = len(before) + case.rng.randrange(8)
    wait_until(lambda: run.poll() is not None or len(set(rows(project))) > count, 200)
    time.sleep(case.rng.uniform(0, 3))
    hit = run.poll() is None
    if hit:
        strike(run.pid)
    run.wait(200)
    kept = before | set(rows(project))
    again = _snakemake(project)
    status = again.wait(400)
    found = case.after(kept, injected=hit)
    if status != 0:
        found.wrong.append(f"the next run ended with {status}: {project.output[-900:]}")
    return found


@fault(3, 110)
def snakemake_killed(case: Case) -> Outcome:
    return _struck_snakemake(case, lambda run: os.killpg(run, signal.SIGKILL))


@fault(3, 110)
def snakemake_killed_alone(case: Case) -> Outcome:
    """Its jobs go on while the next one starts."""
    return _struck_snakemake(case, lambda run: os.kill(run, signal.SIGKILL))


@fault(3, 130)
def snakemake_interrupted(case: Case) -> Outcome:
    return _struck_snakemake(case, lambda run: os.killpg(run, signal.SIGINT))


def _at_work(run: int) -> list[psutil.Process]:
    """Processes of the job of a run: who watches, and who computes."""
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(run).children(recursive=True)
        jobs = [each for each in found if each.cmdline()[1:4] == ["-m", "diffaccel", "search"]]
        return jobs if len(jobs) > 1 else []
    return []


@fault(6, 60, short=True)
def snakemake_stopped_alone(case: Case) -> Outcome:
    """Its own process gets a signal, as schedulers and `kill` send it, while its job hangs: it does
    not wait for that, and leaves nothing behind."""
    project = case.at("half")
    before = set(rows(project))
    run = _snakemake(project, case.rng.choice([RUN, RUN, RAW]))
    wait_until(lambda: run.poll() is not None or bool(_at_work(run.pid)), 200)
    time.sleep(case.rng.uniform(0, 5))
    jobs = _at_work(run.pid)
    wrong = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in jobs[1:]:
            each.suspend()
    start, stop = time.monotonic(), case.rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    run.send_signal(stop)
    try:
        run.wait(STOPPED_SECONDS)
    except subprocess.TimeoutExpired:
        wrong.append(f"it went on: {project.output[-600:]}")
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    said = f"{stop.name}: over after {time.monotonic() - start:.0f} s"
    _, alive = psutil.wait_procs(jobs, 5)
    wrong += [f"left behind: {each}" for each in alive]
    found = case.after(before | set(rows(project)), injected=bool(jobs))
    found.wrong.extend(wrong)
    return replace(found, said=said)


@fault(3, 120)
def snakemake_with_a_damaged_result(case: Case) -> Outcome:
    project = case.at("half")
    shutil.rmtree(project.results / "baseline", ignore_errors=True)
    shutil.rmtree(project.results / "models", ignore_errors=True)
    statuses = [_snakemake(project).wait(400)]
    kept = set(rows(project))
    chosen = case.rng.choice([p for p in _results(project) if p.name != ".sha256"])
    content = chosen.read_bytes()
    chosen.write_bytes(damaged := _some_of(case, content))
    statuses.append(_snakemake(project).wait(400))
    found = case.after(kept, injected=damaged != content)
    if any(statuses):
        found.wrong.append(f"{chosen}: ended with {statuses}: {project.output[-900:]}")
    return found
