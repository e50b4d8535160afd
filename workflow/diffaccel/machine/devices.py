"""Which hardware a job runs on, and that nothing of this program disturbs what is timed there."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform as host
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from diffaccel.errors import InputError
from diffaccel.machine import gpus, locks, threads
from diffaccel.machine.gpus import Gpu
from diffaccel.machine.jobs import note

log = logging.getLogger(__name__)

SLOTS = 240
"""Of them there are in `profiles/default` (``timed``), for jobs that measure; divisible by most
numbers of devices."""
PATIENCE = 60.0
"""Seconds to wait for a GPU that others use, where all are used by others."""
_POLL_SECONDS = 0.05
_CORE = "cpu-core-{}.lock"
_PLACE = "gpu-{}-{}.lock"


def slots(count: int, jobs: int) -> int:
    """Of `PLACES`, what a job takes, so that one more can run than there are devices: it gets
    ready while the others measure.

    Args:
        count: of GPUs; none is one device, too.
        jobs: how many such jobs may be on one device at once.
    """
    return max(1, SLOTS // (max(1, count) + 1) // jobs)


def slug(name: str) -> str:
    """A device name as a folder name: ``NVIDIA H100 80GB HBM3`` -> ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def platform() -> str:
    """Name of this machine's hardware, as in ``results/<platform>``: a GPU's, or ``cpu``."""
    names = {slug(gpu.name) for gpu in gpus.visible()}
    if len(names) > 1:
        raise InputError(
            f"GPUs of several kinds are visible: {sorted(names)}. Results of different hardware "
            "never mix: choose one kind with CUDA_VISIBLE_DEVICES"
        )
    return names.pop() if names else "cpu"


def check_platform(named: str) -> None:
    """Refuses to measure for results of other hardware than this.

    Raises:
        InputError: this machine is not of the platform.
    """
    if (found := platform()) != named:
        raise InputError(
            f"the results are for {named!r} and this machine is {found!r}; results of "
            f"different hardware never mix: run there, or set platform: {found}"
        )


def describe() -> tuple[str, str]:
    """(device name, driver version) of the device that is used, or will be."""
    found = gpus.visible()
    return (found[0].name, gpus.driver()) if found else (_cpu_name(), "")


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = match.group(1).strip() if match else host.processor() or host.machine()
    return f"{name}, {os.cpu_count()} cores"


class Device:
    """What a job computes on: shared with other jobs, or exclusively its own while it times.

    Not for several threads.

    Args:
        name: torch's, ``cuda`` or ``cpu``.
        lock: file that stands for it; None where nobody else can be on it.
        gpu: which of the machine's it is, if it is one.
    """

    def __init__(self, name: str, lock: Path | None = None, gpu: Gpu | None = None) -> None:
        self.name, self.gpu = name, gpu
        self._lock = lock
        self._share: int | None = None
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work that is not timed: it waits while another job times. Within another `shared` it
        gives way to who waits, so hold it for a call or so at a time."""
        if self._lock is None or self._exclusive:
            yield
        elif self._share is not None:
            self._leave()
            self._enter()
            yield
        else:
            self._enter()
            try:
                yield
            finally:
                self._leave()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The time in which this job times, and no other one works on this device. A share is given
        up meanwhile."""
        if self._lock is None or self._exclusive:
            yield
            return
        shares = self._share is not None
        self._leave()
        try:
            with locks.held(self._gate), locks.held(self._lock):
                self._exclusive = True
                yield
        finally:
            self._exclusive = False
            if shares:
                self._enter()

    def others(self) -> list[str]:
        """Processes of others that are on the GPU now, in words; see `others`."""
        return others(self.gpu) if self.gpu else []

    @property
    def _gate(self) -> Path:
        """Who waits to time holds it, so that newcomers do not keep the device from him."""
        assert self._lock is not None
        return self._lock.with_suffix(".gate")

    def _enter(self) -> None:
        assert self._lock is not None
        with locks.held(self._gate):
            self._share = locks.take(self._lock, locks.SHARED)

    def _leave(self) -> None:
        if self._share is not None:
            os.close(self._share)
        self._share = None


@contextmanager
def hold_device(jobs: int = 1, wanted: int = 0) -> Iterator[Device]:
    """Takes a place for this process's work, waiting until one is free: on a GPU, or cores of the
    CPU where there is none. A GPU that others use is avoided; where all are, it waits for
    `PATIENCE`.

    Call it before torch is imported: CUDA is told which GPU was chosen. Within an allocation of
    Slurm these are its GPUs.

    Args:
        jobs: how many such jobs may be on one GPU at once.
        wanted: threads on a CPU; 0 is all that the job is given.

    Raises:
        InputError: ``CUDA_VISIBLE_DEVICES`` names what is not there, or there can be no locks.
    """
    found = gpus.visible()
    with _on_gpu(found, jobs) if found else _on_cpu(threads.of(wanted)) as device:
        yield device


@contextmanager
def _on_cpu(count: int) -> Iterator[Device]:
    """Cores that no other job of this program has. What is timed on them waits for nobody: a job on
    the other cores changes neither speedups nor how far pairs are apart, as far as was seen
    (docs/explanation/measuring.md).
    """
    with contextlib.ExitStack() as stack:
        for handle in _take_cores(count):
            stack.callback(os.close, handle)
        note(device="cpu")
        yield Device("cpu")


def _take_cores(count: int) -> list[int]:
    """So many of the cores that this process may use, for a job that computes on as many threads.
    They are but counted: where the threads run is the system's business. Who came first gets them
    first, however many he wants."""
    free, taken = [locks.path(_CORE.format(core)) for core in threads.numbers()], list[int]()
    with locks.held(locks.path("cpu-cores.gate")):
        for _ in range(count):
            which, handle = _take(free)
            taken.append(handle)
            del free[which]
    return taken


@contextmanager
def _on_gpu(found: Sequence[Gpu], jobs: int) -> Iterator[Device]:
    if len(found) == 1:
        _import_libraries()
    unused = _unused(found)
    # The first place of every GPU before the second of any: work spreads.
    slots = [(gpu, number) for number in range(jobs) for gpu in unused]
    names = [locks.path(_PLACE.format(slug(gpu.uuid), number)) for gpu, number in slots]
    which, handle = _take(names)
    chosen = slots[which][0]
    try:
        gpus.choose(chosen)
        log.info("on GPU %s (%s)", chosen.label, chosen.uuid)
        note(device=f"GPU {chosen.label}")
        yield Device("cuda", locks.path(f"gpu-{slug(chosen.uuid)}.lock"), chosen)
    finally:
        os.close(handle)


def _take(slots: Sequence[Path]) -> tuple[int, int]:
    """The first that is free, once one is: which, and what holds it."""
    said = False
    while True:
        for which, path in enumerate(slots):
            if (handle := locks.try_to_take(path)) is not None:
                return which, handle
        if not said:
            log.info("other jobs hold %s: waiting", ", ".join(path.stem for path in slots))
        said = True
        time.sleep(_POLL_SECONDS)


def others(gpu: Gpu) -> list[str]:
    """Processes that compute on a GPU and are none of this program's, nor started by such, as far
    as the driver tells: in a container it may not."""
    ours = {os.getpid(), *locks.holders(_PLACE.format("*", "*"))}
    return [
        f"process {pid} ({name})"
        for pid, name in gpus.computing(gpu).items()
        if ours.isdisjoint({pid, *_ancestors(pid)})
    ]


def _ancestors(pid: int) -> set[int]:
    try:
        return {each.pid for each in psutil.Process(pid).parents()} - {1}
    except psutil.Error:
        return set()


def _unused(found: Sequence[Gpu]) -> Sequence[Gpu]:
    """Those that nobody else uses; all of them where that does not change in time."""
    until = time.monotonic() + PATIENCE
    while not (unused := [gpu for gpu in found if not others(gpu)]):
        if time.monotonic() > until:
            log.warning("others use every GPU; what is timed there says so")
            return found
        time.sleep(1)
    return unused


def _import_libraries() -> None:
    """Imports what every measurement needs, which takes seconds, before a GPU is waited for: where
    there is but one, none of it depends on which, and another job can use it meanwhile."""
    for name in ("diffusers.pipelines.stable_diffusion_xl", "torchmetrics.multimodal"):
        importlib.import_module(name)
