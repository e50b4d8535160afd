"""What calls of a pipeline take beside time: memory, and energy where the driver tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.evaluation.records import Usage
from diffaccel.machine import gpus

if TYPE_CHECKING:
    from diffaccel.machine.devices import Device

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_FORGET_PEAK = "5"
"""What, written there, has Linux forget the most memory that a process has had. Source: Linux,
Documentation/filesystems/proc.rst, "clear_refs"."""


ENERGY_SECONDS = 2.0
"""That calls must take together for their energy to be told: the driver's counter goes on some
dozens of times a second."""


class Meter:
    """Measures one call within `running`. Nothing of it is done while a call is timed.

    Args:
        device: that the pipeline computes on.
        pipe: the pipeline. Of a GPU's memory its own weights count, and what calls take on top of
            what was taken before: other pipelines and the scorer may lie there as well.
    """

    def __init__(self, device: Device, pipe: Any) -> None:
        self._device, self._pipe = device, pipe
        self.usage = Usage()

    @contextlib.contextmanager
    def running(self, images: int = 1) -> Iterator[None]:
        """The block of a call that makes so many images; `usage` is of it, once it has ended."""
        cuda = self._device.name.startswith("cuda")
        if cuda:
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if cuda else 0
        host, energy = _forget_peak(), self._millijoules()
        yield
        device_bytes = None
        if cuda:
            torch.cuda.synchronize()
            device_bytes = torch.cuda.max_memory_allocated() - before + weights_of(self._pipe)
        after = self._millijoules()
        self.usage = Usage(
            device_bytes=device_bytes,
            host_bytes=_peak() if host else None,
            joules=None if energy is None or after is None else (after - energy) / 1000 / images,
        )

    def _millijoules(self) -> int | None:
        gpu = self._device.gpu
        return gpus.energy(gpu) if gpu else None


@dataclass
class Total:
    """What several calls took that generated as many images each.

    Args:
        each: of each call.
        seconds: of all calls.
    """

    each: list[Usage] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, usage: Usage, seconds: float) -> None:
        """Another call."""
        self.each.append(usage)
        self.seconds += seconds

    def usage(self) -> Usage | None:
        """The most memory of any, and the energy of an image, where the calls tell."""
        found = Usage.of(self.each)
        if found is None or self.seconds >= ENERGY_SECONDS:
            return found
        return replace(found, joules=None)


def weights_of(pipe: Any) -> int:
    """Bytes of all weights of a pipeline's parts on their device."""
    import torch

    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {
        tensor.data_ptr(): tensor.nbytes
        for part in parts
        for tensor in (*part.parameters(), *part.buffers())
    }
    return sum(tensors.values())


def _forget_peak() -> bool:
    """Whether the process's most memory so far is forgotten."""
    try:
        _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _peak() -> int | None:
    """The most bytes that this process has had in memory."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("VmHWM:"))
    return next((int(kib) * 1024 for _, kib, _ in found), None)
