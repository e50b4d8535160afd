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
            "different hardware never mix: run there, or set platform: auto"
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


@contextmanager
def hold_device() -> Iterator[str]:
    """Takes a GPU for this process's work, waiting until one is free; gives torch's name for it,
    ``cuda``, or ``cpu`` where there is none.

    Call it before torch is imported: the chosen GPU is put into ``CUDA_VISIBLE_DEVICES``. Under
    Slurm the allocation already says which one.
    """
    found = [index for index, _ in gpus()]
    if not found or "SLURM_JOB_ID" in os.environ:
        yield "cuda" if found else "cpu"
        return
    if len(found) == 1:
        _import_libraries()
    which, handle = _take([_locks() / f"gpu-{slug(index)}.lock" for index in found])
    try:
        os.environ["CUDA_VISIBLE_DEVICES"] = found[which]
        yield "cuda"
    finally:
        handle.close()


@contextmanager
def hold_clock(device: str) -> Iterator[None]:
    """The time in which this process times, and no other on this device does.

    A GPU is held for the whole job by `hold_device`. A CPU is not: jobs may load, draw and score
    beside each other, but only one at a time is on the clock.
    """
    if device != "cpu":
        yield
        return
    _, handle = _take([_locks() / "cpu.lock"])
    try:
        yield
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
