"""Which hardware a job runs on, and that no two timed jobs share it."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import platform as host
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from diffaccel.errors import InputError
from diffaccel.jobs import note

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
PLACES = 240
"""Of them there are in `profiles/default` (``timed``), for jobs that measure; divisible by most
numbers of devices."""
PATIENCE = 60.0
"""Seconds to wait for a GPU that others use, where all are used by others."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Args:
        visible: what ``CUDA_VISIBLE_DEVICES`` calls it: its index, or the beginning of its id.
        uuid: its id, the same for all processes.
    """

    visible: str
    name: str
    uuid: str


def _query(fields: str, what: str = "gpu") -> list[list[str]]:
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that this process may use, without loading torch.

    An inherited ``CUDA_VISIBLE_DEVICES`` is honoured.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    found = [Gpu(*row[:3]) for row in _query("index,name,uuid")]
    if visible is None:
        return found
    chosen = [part.strip() for part in visible.split(",") if part.strip()]
    return [
        replace(gpu, visible=want)
        for want in chosen
        for gpu in found
        if want == gpu.visible or gpu.uuid.startswith(want)
    ]


def places(count: int, jobs: int) -> int:
    """Of `PLACES`, what a job takes, so that one more can run than there are devices: it gets
    ready while the others measure.

    Args:
        count: of GPUs; none is one device, too.
        jobs: how many such jobs may be on one device at once.
    """
    return max(1, PLACES // (max(1, count) + 1) // jobs)


def slug(name: str) -> str:
    """A device name as a folder name: ``NVIDIA H100 80GB HBM3`` -> ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def platform() -> str:
    """Name of this machine's hardware, as in ``results/<platform>``: a GPU's, or ``cpu``."""
    names = {slug(gpu.name) for gpu in gpus()}
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
    """(device name, driver version) of the device that is used."""
    rows = _query("name,driver_version") if gpus() else []
    if rows:
        return rows[0][0], rows[0][1]
    return _cpu_name(), ""


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = match.group(1).strip() if match else host.processor() or host.machine()
    return f"{name}, {os.cpu_count()} cores"


class Device:
    """What a job computes on: beside other jobs, or alone while it is on the clock.

    Not for several threads.

    Args:
        name: torch's, ``cuda`` or ``cpu``.
        lock: file that stands for it; None where nobody else can be on it.
        gpu: which of the machine's it is, if it is one.
    """

    def __init__(self, name: str, lock: Path | None = None, gpu: Gpu | None = None) -> None:
        self.name, self.gpu = name, gpu
        self._lock = lock
        self._room: IO[str] | None = None
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work that is not timed. On a GPU it waits while another job is on the clock; on a CPU,
        whose cores jobs share, it does not. Within another `shared` it gives way to who waits."""
        inside = self._room
        if self._lock is None or self._exclusive or self.name == "cpu":
            yield
        elif inside is not None:
            self._leave(inside)
            self._enter(inside)
            yield
        else:
            with self._lock.open("w") as room:
                self._enter(room)
                try:
                    yield
                finally:
                    self._room = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The time in which this job times, and no other on this device does; on a GPU no other
        works at all. Within `shared`, that is given up meanwhile."""
        if self._lock is None or self._exclusive:
            yield
            return
        room = self._room
        if room is not None:
            self._leave(room)
        try:
            with _locked(self._gate), _locked(self._lock):
                self._exclusive = True
                yield
        finally:
            self._exclusive = False
            if room is not None:
                self._enter(room)

    def others(self) -> list[str]:
        """Processes of others that are on the GPU now, in words; see `others`."""
        return others(self.gpu) if self.gpu else []

    @property
    def _gate(self) -> Path:
        """Who waits for the clock holds it, so that newcomers do not keep it from him."""
        assert self._lock is not None
        return self._lock.with_suffix(".gate")

    def _enter(self, room: IO[str]) -> None:
        with _locked(self._gate):
            fcntl.flock(room, fcntl.LOCK_SH)
        self._room = room

    def _leave(self, room: IO[str]) -> None:
        fcntl.flock(room, fcntl.LOCK_UN)
        self._room = None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def hold_device(jobs: int = 1) -> Iterator[Device]:
    """Takes a place on a GPU for this process's work, waiting until one is free; gives the CPU
    where there is no GPU. A GPU that others use is avoided; where all are, it waits for `PATIENCE`.

    Call it before torch is imported: the chosen GPU is put into ``CUDA_VISIBLE_DEVICES``. Under
    Slurm the allocation already says which one.

    Args:
        jobs: how many such jobs may be on one GPU at once.
    """
    found = gpus()
    if not found:
        note(device="cpu")
        yield Device("cpu", _locks() / "cpu.lock")
        return
    if "SLURM_JOB_ID" in os.environ:
        note(device=f"GPU {found[0].visible}")
        yield Device("cuda", gpu=found[0])
        return
    if len(found) == 1:
        _import_libraries()
    # The first place of every GPU before the second of any: work spreads.
    places = [(gpu, number) for number in range(jobs) for gpu in _unused(found)]
    locks = [_locks() / f"gpu-{slug(gpu.uuid)}-{number}.lock" for gpu, number in places]
    which, handle = _take(locks)
    chosen = places[which][0]
    try:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen.visible
        log.info("on GPU %s (%s)", chosen.visible, chosen.uuid)
        note(device=f"GPU {chosen.visible}")
        yield Device("cuda", _locks() / f"gpu-{slug(chosen.uuid)}.lock", chosen)
    finally:
        handle.close()


def others(gpu: Gpu) -> list[str]:
    """Processes that compute on a GPU and are none of this program's, nor started by such, as far
    as the driver tells: in a container it may not."""
    rows = [row for row in _query("gpu_uuid,pid,name", "compute-apps") if row[0] == gpu.uuid]
    ours = {os.getpid(), *_holders()}
    return [
        f"process {pid} ({name})"
        for _, pid, name in rows
        if pid.isdigit() and ours.isdisjoint(_ancestors(int(pid)))
    ]


def _unused(found: list[Gpu]) -> list[Gpu]:
    """Those that nobody else uses; all of them where that does not change in time."""
    until = time.monotonic() + PATIENCE
    while not (unused := [gpu for gpu in found if not others(gpu)]):
        if time.monotonic() > until:
            log.warning("others use every GPU; what is timed there says so")
            return found
        time.sleep(1)
    return unused


def _holders() -> set[int]:
    """Processes that have taken a place on a GPU."""
    found = (path.read_text(encoding="ascii") for path in _locks().glob("gpu-*-*.lock"))
    return {int(text) for text in found if text.isdigit()}


def _ancestors(pid: int) -> set[int]:
    """A process, what started it, what started that, and so on, as far as can be seen."""
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            break
        pid = int(status.rpartition(")")[2].split()[1])
    return found


def _import_libraries() -> None:
    """Imports what every measurement needs, which takes seconds, before a GPU is waited for: where
    there is but one, none of it depends on which, and another job can use it meanwhile."""
    for name in ("diffusers.pipelines.stable_diffusion_xl", "torchmetrics.multimodal"):
        importlib.import_module(name)


def _locks() -> Path:
    folder = Path(tempfile.gettempdir()) / f"diffaccel-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _take(locks: list[Path]) -> tuple[int, IO[str]]:
    log.debug("waiting for one of: %s", ", ".join(path.stem for path in locks))
    while True:
        for which, path in enumerate(locks):
            handle = path.open("a")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.close()
                continue
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            return which, handle
        time.sleep(_POLL_SECONDS)
