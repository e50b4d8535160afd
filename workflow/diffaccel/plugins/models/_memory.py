"""Whether a model fits, before it is loaded; and what a call takes, before one is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from diffaccel.plugins.models._weights import ModelError

_CGROUP = Path("/sys/fs/cgroup")
_GB = 1e9
ITEMSIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by torch's name of its dtype."""


def resolve_dtype(dtype: str, device: str) -> str:
    """torch's name of the dtype; ``auto`` is half precision on a GPU and full on a CPU."""
    if dtype != "auto":
        return dtype
    return "float16" if device.startswith("cuda") else "float32"


def check_memory(name: str, parameters: int, dtype: str, device: str) -> None:
    """Refuses a model whose weights alone do not fit; what a call takes comes on top.

    Args:
        parameters: of all its networks.
        dtype: torch's name of what they are loaded in.

    Raises:
        ModelError: too little memory is free.
    """
    needed = parameters * ITEMSIZES[dtype]
    on_gpu = device.startswith("cuda")
    # A model is put together in the host's memory before it is moved.
    free = {"the host": free_host_bytes()} | ({device: _free_gpu_bytes(device)} if on_gpu else {})
    for where, available in free.items():
        if available is not None and available < needed:
            raise ModelError(
                f"model {name!r}: its weights take {needed / _GB:.1f} GB in {dtype} and {where} "
                f"has {available / _GB:.1f} GB free: free some, use a smaller dtype or another "
                "machine"
            )


def decoding_bytes(vae: Mapping[str, Any], pixels: int, itemsize: int) -> int:
    """What a call of the baseline takes beside the weights, about: decoding takes the most. The
    decoder's last block works at full size, on as many channels as the block before it gives, and
    holds its input, normalised, activated and convolved.

    On an H200 calls of untrained SD1.5 took 1.00 times that (8 images of 512 pixels, float16;
    tests/gpu/test_usage.py compares).

    Args:
        vae: its ``config.json``, of diffusers' ``AutoencoderKL``.
        pixels: of all images of a call.
        itemsize: bytes of a number.
    """
    first, *rest = vae["block_out_channels"]
    return 4 * max(first, *rest[:1]) * pixels * itemsize


def _free_gpu_bytes(device: str) -> int:
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def free_host_bytes() -> int:
    """What this process may still take: of the machine, and of the container it is in, which psutil
    does not know."""
    machine, container = int(psutil.virtual_memory().available), _container()
    return machine if container is None else min(machine, container)


def _container() -> int | None:
    limit, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if not limit.isdigit() or not used.isdigit():
        return None
    # Cached files are counted as used, and given up when memory is needed.
    stat = dict(line.split() for line in _read(_CGROUP / "memory.stat").splitlines())
    return int(limit) - int(used) + int(stat.get("inactive_file", 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
