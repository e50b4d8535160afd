"""What a model family is, and how any of its models is loaded."""

from __future__ import annotations

import hashlib
import os
from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.errors import InputError
from diffaccel.models._untrained import Sizes, build, build_like
from diffaccel.records import ModelSpec

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


class ModelError(InputError):
    """A model cannot be loaded; says what was given and what to do."""


class Family(ABC):
    """Models of one architecture. The instance ``PLUGIN`` of a file is the plugin."""

    name: ClassVar[str]
    """As in config's ``family``; also the name of the family's original model."""
    pipeline_class: ClassVar[str]
    sizes: ClassVar[Sizes]
    """Of the original model."""
    known: ClassVar[tuple[ModelSpec, ...]]
    """Models that need no more than their name, the family's own first: a model that a user
    adds takes what he leaves out from it."""

    def load_arguments(self) -> dict[str, Any]:
        """What diffusers' ``from_pretrained`` takes on top."""
        return {}

    def check(self, spec: ModelSpec) -> None:
        """Says what is wrong with a local model folder before any long work.

        Raises:
            ModelError: no such folder, not a pipeline, another pipeline class, or pickled weights.
        """
        folder = Path(spec.source)
        if not _is_local(spec.source):
            return
        index = folder / "model_index.json"
        if not index.is_file():
            raise ModelError(
                f"model {spec.name!r}: {folder} is not a folder in diffusers' format (it has no "
                "model_index.json). Save one with pipeline.save_pretrained(folder)"
            )
        if f'"{self.pipeline_class}"' not in index.read_text(encoding="utf-8"):
            raise ModelError(
                f"model {spec.name!r}: {index} is not of a {self.pipeline_class}, which the family "
                f"{self.name!r} needs"
            )
        if not spec.untrained and not any(folder.glob("unet/*.safetensors")):
            pickles = [path.name for path in folder.glob("unet/*") if path.suffix in _PICKLES]
            raise ModelError(
                f"model {spec.name!r}: {folder}/unet has no .safetensors weights"
                + (f" but {pickles}; pickles are not loaded, convert them" if pickles else "")
            )

    def load(self, spec: ModelSpec, dtype: str, device: str) -> DiffusionPipeline:
        """The pipeline on a device, ready to call, with the safety checker off.

        Raises:
            ModelError: it cannot be loaded.
        """
        import diffusers
        import torch

        if spec.untrained and not spec.source:
            return build(self.sizes, dtype, device)
        self.check(spec)
        if spec.untrained:
            arguments = self.load_arguments()
            return build_like(Path(spec.source), self.pipeline_class, arguments, dtype, device)
        try:
            pipe = getattr(diffusers, self.pipeline_class).from_pretrained(
                spec.source,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                **self.load_arguments(),
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {spec.name!r} cannot be loaded from {spec.source!r}: {error}"
            ) from error
        return pipe.to(device)


class StableDiffusion(Family):
    """The families of one text encoder."""

    pipeline_class = "StableDiffusionPipeline"

    def load_arguments(self) -> dict[str, Any]:
        return {"safety_checker": None, "requires_safety_checker": False}


def _is_local(source: str) -> bool:
    return source.startswith((".", "/", "~", "resources/")) or Path(source).exists()


def model_files(source: str) -> list[Path]:
    """The files of a local model that determine what it gives; none of a remote one."""
    if not source:  # untrained
        return []
    return [
        path
        for path in sorted(Path(source).rglob("*"))
        if path.is_file() and path.suffix in (".json", ".safetensors", ".txt")
    ]


def content_hash(source: str) -> str:
    """Hash of a local model's files (names and contents), or the id of a remote one."""
    folder = Path(source)
    if not source or not folder.is_dir():
        return source or "untrained"
    total = hashlib.sha256()
    for path in model_files(source):
        total.update(os.fsencode(path.relative_to(folder)))
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
