"""The NVIDIA GPUs that this process may use, as the driver's library (NVML) lists them.

They are chosen as CUDA does, by ``CUDA_VISIBLE_DEVICES``, but for two things: numbers are in the
order of the PCI bus, as nvidia-smi has them and CUDA does not by itself; and what names no GPU is
an error, where CUDA silently takes those before it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from diffaccel.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"
_NONE = {"", "-1", "NoDevFiles"}
"""What names no GPU: CUDA's own, and Slurm's where a job has none."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one that is divided (MIG).

    Args:
        label: for people: its number as nvidia-smi has it, and an instance's after a colon.
        uuid: its id, the same for all processes; what ``CUDA_VISIBLE_DEVICES`` may call it.
    """

    label: str
    name: str
    uuid: str


@dataclass(frozen=True)
class _Board:
    """A GPU of the machine.

    Args:
        instances: what it is divided into, where it is (MIG).
    """

    gpu: Gpu
    divided: bool
    instances: tuple[Gpu, ...]

    @property
    def usable(self) -> tuple[Gpu, ...]:
        return self.instances if self.divided else (self.gpu,)


def visible() -> list[Gpu]:
    """The GPUs that this process may use, without loading torch.

    Raises:
        InputError: ``CUDA_VISIBLE_DEVICES`` names one that is not there, or cannot be told.
    """
    named = os.environ.get(VISIBLE)
    if named is not None and named.strip() in _NONE:
        return []
    boards = _boards()
    if named is None:
        return [gpu for board in boards for gpu in board.usable]
    chosen = [_named(name, boards) for name in _names(named)]
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{VISIBLE}={named} names a GPU twice")
    return chosen


def choose(gpu: Gpu) -> None:
    """Has all that is started from here, and CUDA in this process, use this GPU."""
    os.environ[VISIBLE] = gpu.uuid
    os.environ[ORDER] = BY_BUS


def driver() -> str:
    """The version of the driver."""
    with _library() as there:
        return str(pynvml.nvmlSystemGetDriverVersion()) if there else ""


def energy(gpu: Gpu) -> int | None:
    """Millijoules that a GPU has taken since its driver was loaded; None where the driver does not
    tell, as of a part of a GPU."""
    with _library() as there:
        if not there:
            return None
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except pynvml.NVMLError:
            return None


def computing(gpu: Gpu) -> dict[int, str]:
    """Processes that compute on a GPU, and their names, as far as the driver tells: in a container
    it may not."""
    with _library() as there:
        if not there:
            return {}
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            return {}
    return {process.pid: _name_of(process.pid) for process in found}


def _name_of(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "of another user, or gone"


def _names(named: str) -> Iterator[str]:
    """As CUDA reads them: what follows a -1 does not count."""
    for name in (part.strip() for part in named.split(",")):
        if name == "-1":
            return
        yield name


def _named(name: str, boards: Sequence[_Board]) -> Gpu:
    """The GPU of a name: its number, or the beginning of its id."""
    if name.isdigit() and int(name) < len(boards):
        board = boards[int(name)]
        _check_order(name, boards)
        if not board.divided:
            return board.gpu
        raise InputError(
            f"{VISIBLE} names GPU {name}, which is divided (MIG): name one of its instances: "
            f"{', '.join(each.uuid for each in board.instances) or 'it has none'}"
        )
    every = [gpu for board in boards for gpu in board.usable]
    found = [
        gpu for gpu in every if name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{each.uuid} ({each.name})" for each in every) or "no NVIDIA GPU"
    problem = "more than one GPU" if found else "no GPU that is here"
    raise InputError(
        f"{VISIBLE} names {name!r}, which is {problem}. Here is: {there}. Name GPUs by number or "
        f"id; {VISIBLE}= (empty) is for the CPU"
    )


def _check_order(name: str, boards: Sequence[_Board]) -> None:
    """Refuses a number where the user wants another order than ours and it matters."""
    order = os.environ.get(ORDER, BY_BUS)
    if order != BY_BUS and len({board.gpu.name for board in boards}) > 1:
        raise InputError(
            f"{VISIBLE} names GPU {name}, and {ORDER}={order} is an order that only CUDA knows: "
            f"name GPUs by id, or set {ORDER}={BY_BUS}, which is the order here"
        )


def _boards() -> list[_Board]:
    """All that this process can reach, in the order of the bus."""
    with _library() as there:
        handles = list(_handles()) if there else []
        return [_board(str(number), handle) for number, handle in enumerate(handles)]


def _handles() -> Iterator[Any]:
    found = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        # One that a container or a scheduler keeps from this process is none for CUDA either.
        with contextlib.suppress(pynvml.NVMLError_NoPermission):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            pci = pynvml.nvmlDeviceGetPciInfo(handle)
            found.append(((pci.domain, pci.bus, pci.device), handle))
    yield from (handle for _, handle in sorted(found, key=lambda row: row[0]))


def _board(label: str, handle: Any) -> _Board:
    gpu = Gpu(label, pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle))
    try:
        divided = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError_NotSupported:  # most cannot be divided
        divided = False
    return _Board(gpu, divided, tuple(_instances(label, handle)) if divided else ())


def _instances(label: str, handle: Any) -> Iterator[Gpu]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError_NotFound):
            each = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            name = str(pynvml.nvmlDeviceGetName(each))
            if "MIG" not in name:  # older drivers name the whole
                has = pynvml.nvmlDeviceGetAttributes(each)
                size = round(has.memorySizeMB / 1024)
                name += f" MIG {has.gpuInstanceSliceCount}g.{size}gb"
            yield Gpu(f"{label}:{number}", name, pynvml.nvmlDeviceGetUUID(each))


@contextlib.contextmanager
def _library() -> Iterator[bool]:
    """The time in which NVML can be asked; whether there is a driver at all.

    Raises:
        InputError: there is one, and it does not work.
    """
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        yield False
        return
    except pynvml.NVMLError as error:
        raise InputError(
            f"this machine has NVIDIA's driver, and it does not work: {error}. Mend it, or set "
            f"{VISIBLE}= (empty) to use the CPU"
        ) from None
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()
