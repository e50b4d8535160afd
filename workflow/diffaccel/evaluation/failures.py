"""What a call that raised is held against: the candidate, or the device, or the moment."""

from __future__ import annotations

import gc
import logging

from diffaccel.machine.devices import Device
from diffaccel.machine.watch import Failure, Watch

log = logging.getLogger(__name__)

GIB = 1 << 30
HELD = 0.1
"""Share of a GPU's memory that others must hold, and `HELD_GIB` at least, before a lack of it may
be their doing: a process has some besides what it computes with."""
HELD_GIB = 2


class Blamed(Exception):
    """A candidate that must not be called; see `diffaccel.machine.watch.Watch`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class DeviceLostError(Exception):
    """The device does not compute any more; nothing is said of what was called last."""


def failure_of(error: Exception, device: Device, watch: Watch, candidate: str) -> Failure:
    """What to say of a candidate whose call raised; memory that it left behind is given back.

    What the error says of itself decides nothing: a candidate can raise errors of the device that
    leave it as it was. So it is asked to compute something.

    Args:
        candidate: its name, for who watches.

    Raises:
        DeviceLostError: the device does not compute any more. Who watches starts the work again,
            and holds it against the candidate if that happens once more.
    """
    if isinstance(error, Blamed):
        return error.failure
    if is_out_of_memory(error):
        others = _taken_by_others(error, device)
        free_memory()
        said = f"out of memory: {first_line(error)}"
        return Failure(f"{said} ({others})", passing=True) if others else Failure(said)
    lost = _lost(device.name)
    if lost is not None:
        watch.lost(candidate, first_line(lost))
        raise DeviceLostError(f"{device.name} does not compute any more: {lost}") from error
    return Failure(f"{type(error).__name__}: {error}")


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_memory() -> None:
    """Gives back what nothing holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _taken_by_others(error: Exception, device: Device) -> str | None:
    """Who else has of the memory that was lacking, in words; None where nobody has much."""
    import torch

    if isinstance(error, MemoryError):
        return "the machine's, which is everybody's"
    if not device.name.startswith("cuda"):
        return None
    if others := device.others():
        return f"beside {others[0]}"
    free, total = torch.cuda.mem_get_info(device.name)
    held = total - free - torch.cuda.memory_reserved(device.name)
    if held > max(HELD * total, HELD_GIB * GIB):
        return f"others held {held / GIB:.1f} of {total / GIB:.1f} GiB"
    return None


def _lost(device: str) -> Exception | None:
    """What is raised where a device is told to compute; None where it does as it is told."""
    import torch

    try:
        torch.ones(8, device=device).sum().item()
    except Exception as error:
        return error
    return None
