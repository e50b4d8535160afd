"""NVML of a machine that a file describes: what this project asks of `nvidia-ml-py`, as that
answers it. Processes find it before the real one where its folder is first in ``PYTHONPATH``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MACHINE = "FAKE_GPUS"
"""Environment variable that names the file."""
NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_LibRmVersionMismatch(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(Path(os.environ[MACHINE]).read_text(encoding="utf-8"))
    return machine


def nvmlInit() -> None:
    if fails := _machine()["fails"]:
        raise globals()[f"NVMLError_{fails}"](fails)


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "570.0"


def nvmlDeviceGetCount() -> int:
    return len(_machine()["boards"])


def nvmlDeviceGetHandleByIndex(number: int) -> dict[str, Any]:
    board: dict[str, Any] = _machine()["boards"][number]
    if not board.get("permitted", True):
        raise NVMLError_NoPermission
    return board


def nvmlDeviceGetHandleByUUID(uuid: str) -> dict[str, Any]:
    for board in _machine()["boards"]:
        for each in (board, *board.get("mig", [])):
            if each["uuid"] == uuid:
                return dict(each)
    raise NVMLError_NotFound


def nvmlDeviceGetName(handle: dict[str, Any]) -> str:
    return str(handle["name"])


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:
    return str(handle["uuid"])


def nvmlDeviceGetPciInfo(handle: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(domain=0, bus=handle["bus"], device=0)


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> list[int]:
    if "mig" not in handle:
        raise NVMLError_NotSupported
    return [NVML_DEVICE_MIG_ENABLE, NVML_DEVICE_MIG_ENABLE]


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], number: int) -> dict[str, Any]:
    try:
        return dict(handle["mig"][number])
    except IndexError:
        raise NVMLError_NotFound from None


def nvmlDeviceGetAttributes(handle: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(gpuInstanceSliceCount=3, memorySizeMB=20096)


def nvmlDeviceGetComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in handle.get("using", [])]
