"""What a call that raised is held against."""

from __future__ import annotations

import json
import os

import pytest
import torch

from diffaccel.evaluation.failures import Blamed, DeviceLostError, failure_of
from diffaccel.machine.devices import Device
from diffaccel.machine.watch import Failure, Watch


def test_what_an_error_says_of_itself_decides_nothing() -> None:
    said = "CUDA error: operation not permitted when stream is capturing"
    found = failure_of(RuntimeError(said), Device("cpu"), Watch(), "it")
    assert found == Failure(f"RuntimeError: {said}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_does_not_compute_is_not_the_candidates_fault() -> None:
    reader, writer = os.pipe()
    with pytest.raises(DeviceLostError, match="cuda does not compute any more"):
        failure_of(RuntimeError("shapes differ"), Device("cuda"), Watch(pipe=writer), "it")
    told = json.loads(os.read(reader, 1000))
    assert told["candidate"] == "it" and told["lost"]


def test_a_machines_memory_is_everybodys() -> None:
    assert failure_of(MemoryError("no more"), Device("cpu"), Watch(), "it").passing
    own = failure_of(torch.OutOfMemoryError("2 GiB\nmore"), Device("cpu"), Watch(), "it")
    assert own == Failure("out of memory: 2 GiB")


def test_blame_is_passed_on() -> None:
    late = Failure("late", passing=True)
    assert failure_of(Blamed(late), Device("cpu"), Watch(), "it") is late
