"""What calls take of a GPU: memory and energy."""

from __future__ import annotations

import time

import pytest
import torch

from diffaccel.evaluation.usage import Meter, weights_of
from diffaccel.experiment.config import load
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import gpus
from diffaccel.machine.devices import Device, hold_device
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models.mini import tiny
from diffaccel.run.outlook import Outlook

pytestmark = pytest.mark.gpu
MIB = 1 << 20
CALLS = [("SD1.5", 1), ("SD1.5", 8), ("SD2.1", 4), ("SDXL", 1), ("SDXL", 4)]


def test_memory_is_the_weights_and_what_a_call_takes() -> None:
    """Whatever else lies on the GPU, and whatever was taken before."""
    pipe = tiny.sd15().to("cuda")
    weights = weights_of(pipe)
    assert weights == sum(
        tensor.nbytes
        for part in (pipe.unet, pipe.vae, pipe.text_encoder)
        for tensor in (*part.parameters(), *part.buffers())
    )
    others = torch.zeros(300 * MIB, dtype=torch.uint8, device="cuda")
    before = torch.zeros(500 * MIB, dtype=torch.uint8, device="cuda")
    del before
    meter = Meter(Device("cuda"), pipe)
    with meter.running():
        taken = torch.zeros(100 * MIB, dtype=torch.uint8, device="cuda")
        del taken
    assert meter.usage.device_bytes == weights + 100 * MIB
    del others


def test_energy_grows_with_work() -> None:
    with hold_device() as device:
        assert device.gpu is not None
        if gpus.energy(device.gpu) is None:
            pytest.skip("the driver does not tell the energy of this GPU")

        def joules(busy: bool) -> float:
            meter = Meter(device, tiny.sd15().to("cuda"))
            matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
            with meter.running():
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    if busy:
                        matrix @ matrix
                        torch.cuda.synchronize()
                    else:
                        time.sleep(0.1)
            assert meter.usage.joules is not None
            return meter.usage.joules

        idle, busy = joules(False), joules(True)
        assert busy > 1.3 * idle > 0
        print(f"joules in 2 s: idle {idle:.0f}, busy {busy:.0f}")


@pytest.mark.parametrize(("model", "images"), CALLS)
def test_the_outlook_expects_what_a_call_takes(model: str, images: int) -> None:
    entry = {"name": f"{model}-untrained", "family": model, "untrained": True}
    changes = {"models": [entry | {"batch_size": images}], "schedulers": ["DDIM"], "steps": [20]}
    experiment = Experiment(load({"platform": "some-gpu", **changes}))
    spec = experiment.spec(next(iter(experiment.speeds.values())))
    needed = Outlook(experiment).memory()
    pipe = FAMILIES[model].load(spec, "float16", "cuda")
    meter = Meter(Device("cuda"), pipe)
    with meter.running():
        pipe(["a cat"] * images, num_inference_steps=2, height=spec.height, width=spec.width)
    taken = meter.usage.device_bytes
    assert needed is not None and taken is not None
    print(f"{model}, {images} images: {taken / 1e9:.2f} GB; expected {needed.total / 1e9:.2f}")
    assert needed.images == images
    assert needed.total == pytest.approx(taken, rel=0.15)
