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
from pathlib import Path
from typing import IO

from diffaccel.errors import InputError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


def _query(fields: str) -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def gpus() -> list[tuple[str, str]]:
    """(index or id, name) of the NVIDIA GPUs that this process may use, without loading torch.

    An inherited ``CUDA_VISIBLE_DEVICES`` is honoured.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    found = [(row[0], row[1], row[2]) for row in _query("index,name,uuid")]
    if visible is None:
        return [(index, name) for index, name, _ in found]
    chosen = [part.strip() for part in visible.split(",") if part.strip()]
    return [
        (want, name)
        for want in chosen
        for index, name, uuid in found
        if want == index or uuid.startswith(want)
    ]


def slug(name: str) -> str:
    """A device name as a folder name: ``NVIDIA H100 80GB HBM3`` -> ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def platform() -> str:
    """Name of this machine's hardware, as in ``results/<platform>``: a GPU's, or ``cpu``."""
    names = {slug(name) for _, name in gpus()}
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
    """

    def __init__(self, name: str, lock: Path | None = None) -> None:
        self.name = name
        self._lock = lock
        self._room: IO[str] | None = None
        self._alone = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Work that is not timed. On a GPU it waits while another job is on the clock; on a CPU,
        whose cores jobs share, it does not. Within another `beside` it gives way to who waits."""
        inside = self._room
        if self._lock is None or self._alone or self.name == "cpu":
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
    def alone(self) -> Iterator[None]:
        """The time in which this job times, and no other on this device does; on a GPU no other
        works at all. Within `beside`, that is given up meanwhile."""
        if self._lock is None or self._alone:
            yield
            return
        room = self._room
        if room is not None:
            self._leave(room)
        try:
            with _locked(self._gate), _locked(self._lock):
                self._alone = True
                yield
        finally:
            self._alone = False
            if room is not None:
                self._enter(room)

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
    where there is no GPU.

    Call it before torch is imported: the chosen GPU is put into ``CUDA_VISIBLE_DEVICES``. Under
    Slurm the allocation already says which one.

    Args:
        jobs: how many such jobs may be on one GPU at once.
    """
    found = [index for index, _ in gpus()]
    if not found:
        yield Device("cpu", _locks() / "cpu.lock")
        return
    if "SLURM_JOB_ID" in os.environ:
        yield Device("cuda")
        return
    if len(found) == 1:
        _import_libraries()
    # The first place of every GPU before the second of any: work spreads.
    places = [(index, number) for number in range(jobs) for index in found]
    locks = [_locks() / f"gpu-{slug(index)}-{number}.lock" for index, number in places]
    which, handle = _take(locks)
    chosen = places[which][0]
    try:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen
        yield Device("cuda", _locks() / f"gpu-{slug(chosen)}.lock")
    finally:
        handle.close()


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
            handle = path.open("w")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.close()
                continue
            return which, handle
        time.sleep(_POLL_SECONDS)
