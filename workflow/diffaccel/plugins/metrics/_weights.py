"""The weights of metrics: where they are, fetched once, and what names them from then on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.plugins.metric_choice import MetricChoice

if TYPE_CHECKING:
    import torch


def fetch_metrics(chosen: Iterable[MetricChoice]) -> tuple[MetricChoice, ...]:
    """Brings all weights to this machine that are not there, and names the commit of those that
    come from a hub.

    Raises:
        ModelError: they are missing, gated, pickled or out of reach; or there is no room.
    """
    from diffaccel.plugins.models._parts import fetch_network

    def pinned(source: str | None, name: str) -> str | None:
        return None if source is None else fetch_network(source, f"metric {name!r}")[0]

    return tuple(replace(each, source=pinned(each.source, each.name)) for each in chosen)


def folder_of(name: str, source: str) -> Path:
    """The folder of a metric's weights, fetched where they are not there.

    Raises:
        ModelError: as `fetch_metrics`.
    """
    from diffaccel.plugins.models._parts import fetch_network

    return fetch_network(source, f"metric {name!r}")[1]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder with a network, in single precision."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= {key: value.float() for key, value in load_file(path).items()}
    return found


def loaded(name: str, kind: Any, folder: Path, device: str) -> Any:
    """A network of transformers, in single precision (half is for storage), ready to call.

    Raises:
        ModelError: the folder holds something else.
    """
    import torch

    from diffaccel.plugins.models import ModelError

    try:
        model = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except Exception as error:  # of several libraries, each with its own
        raise ModelError(
            f"metric {name!r}: {folder} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return model.eval().to(device)


def loaded_processor(name: str, kind: Any, folder: Path) -> Any:
    """What prepares the inputs of a network of transformers.

    Raises:
        ModelError: the folder has none.
    """
    from diffaccel.plugins.models import ModelError

    try:
        return kind.from_pretrained(folder)
    except Exception as error:  # of several libraries, each with its own
        raise ModelError(
            f"metric {name!r}: {folder} has no preprocessor that can be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
