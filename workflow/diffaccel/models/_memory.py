"""Whether a model fits, before it is loaded."""

from __future__ import annotations

from pathlib import Path

from diffaccel.models._weights import ModelError

_CGROUP = Path("/sys/fs/cgroup")
_GB = 1e9


def check_memory(name: str, parameters: int, dtype: str, device: str) -> None:
    """Refuses a model whose weights alone do not fit; what drawing takes comes on top.

    Args:
        parameters: of all its networks.
        dtype: torch's name of what they are loaded in.

    Raises:
        ModelError: too little memory is free.
    """
    needed = parameters * _bytes(dtype)
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


def _bytes(dtype: str) -> int:
    import torch

    return int(getattr(torch, dtype).itemsize)


def _free_gpu_bytes(device: str) -> int:
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def free_host_bytes() -> int | None:
    """What this process may still take: of the machine, and of the container it is in."""
    known = [_machine(), _container()]
    return min((free for free in known if free is not None), default=None)


def _machine() -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


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
