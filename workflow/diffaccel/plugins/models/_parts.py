"""Checking and fetching parts of models: a single file, one network, a scorer, a configuration."""

from __future__ import annotations

from pathlib import Path

from diffaccel.plugins.models import _hub
from diffaccel.plugins.models._kinds import problem
from diffaccel.plugins.models._layout import Layout, layout_of_names
from diffaccel.plugins.models._weights import (
    PICKLES,
    Header,
    ModelError,
    check_weights,
    read_header,
)


def check_single_file(path: Path, *, vae_given: bool) -> Layout:
    """The layout of a whole model in a file.

    Args:
        vae_given: whether its VAE comes from elsewhere.

    Raises:
        ModelError: there is no such file, it is a pickle or not whole, or it holds something else.
    """
    header = header_of(path)
    if (reason := problem(header, vae_given=vae_given)) is not None:
        raise ModelError(f"{path} {reason}")
    return layout_of_names(header.names)


def header_of(path: Path) -> Header:
    """What a file of weights holds.

    Raises:
        ModelError: there is no such file, or it is a pickle or not whole.
    """
    if path.suffix in PICKLES:
        raise ModelError(
            f"{path} is a pickle, which is not loaded since reading one can run any code; give "
            "a .safetensors file"
        )
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    return read_header(path)


def check_network(field: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{field}: {folder} has no config.json: give the folder of a model as save_pretrained "
            "writes it; of a part of a pipeline, its subfolder"
        )
    names = [path.name for path in folder.iterdir()]
    for name in check_weights(f"{field}: {folder}", names, [""], None):
        read_header(folder / name)


def download_config(name: str, commit: str, cached: bool) -> str:
    """All of a pipeline but its weights."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        name,
        revision=commit,
        allow_patterns=["*.json", "*.txt"],
        ignore_patterns=["*.index.json", "*.index.*.json"],
        local_files_only=cached,
    )


def download_network(name: str, commit: str, cached: bool) -> str:
    """One network: its configuration and the plain safetensors."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        name,
        revision=commit,
        allow_patterns=[
            "*.json",
            "*.txt",
            "model*.safetensors",
            "diffusion_pytorch_model*.safetensors",
        ],
        ignore_patterns=["*.fp16.*", "*/*"],
        local_files_only=cached,
    )


def fetch_scorer(scorer: str) -> Path:
    """The folder of a CLIP model, fetched where it is not there.

    Raises:
        ModelError: it is missing, gated, pickled or out of reach.
    """
    return fetch_network(scorer, "scorer")[1]


def fetch_network(source: str, what: str) -> tuple[str, Path]:
    """What names a network from now on, its commit with it, and its folder; fetched where it is
    not there.

    Args:
        what: it is for, for messages.

    Raises:
        ModelError: it is missing, gated, pickled or out of reach, or there is no room.
    """
    found = _hub.find(source, "config.json", what)
    if found.files:
        names = check_weights(f"{what}: {found.source}", found.files, [""], None)
        _hub.check_space(found, names)
    folder = _hub.get(found, what, download_network)
    check_network(what, folder)
    return found.source, folder
