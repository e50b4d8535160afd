"""On a GPU: an error of the device that leaves it as it was, and one that does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from diffaccel.evaluation.failures import failure_of
from diffaccel.machine.devices import Device
from diffaccel.machine.watch import Watch

pytestmark = pytest.mark.gpu


def test_what_is_not_permitted_while_a_stream_is_captured_is_the_candidates_fault() -> None:
    with pytest.raises(Exception) as raised, torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.ones(8, device="cuda").sum().item()
    found = failure_of(raised.value, Device("cuda"), Watch(), "it")
    assert "capture" in found.reason and not found.passing
    assert torch.ones(8, device="cuda").sum().item() == 8


WORK = """
import logging, sys
from diffaccel.machine.watch import watched
logging.basicConfig(format="%(message)s")

def work(watch):
    import torch
    from diffaccel.machine.devices import Device
    from diffaccel.evaluation.failures import failure_of

    for name in ("first", "second", "third"):
        if name in watch.blamed:
            print(name, watch.blamed[name], watch.blamed[name].passing, flush=True)
            continue
        try:
            with watch.calling(name):
                index = torch.tensor([9 if name == "second" else 0], device="cuda")
                torch.ones(8, device="cuda")[index].sum().item()
            print(name, "computed", flush=True)
        except Exception as error:
            failure_of(error, Device("cuda"), watch, name)

watched(work)
"""


def test_a_call_that_loses_the_device_twice_is_left_out_of_the_run() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1] == "third computed" and said.count("first computed") == 3
    (blamed,) = (line for line in said if line.startswith("second"))
    assert blamed.startswith("second the device was lost in a call: ") and blamed.endswith("True")
