"""The local files that a model's images depend on, and hashes of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffaccel.plugins import sources
from diffaccel.plugins.models._spec import Addition, ModelSpec, place_of
from diffaccel.store.jsonio import digest, to_json


def model_files(source: str) -> list[Path]:
    """The local files that determine what a model gives; none of one on a hub."""
    if not source or not sources.is_local(source):
        return []
    if sources.is_single_file(source):
        return [Path(source)]
    kinds = (".json", ".safetensors", ".txt")
    return sorted(path for path in _below(Path(source)) if path.suffix in kinds)


def _below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files in a folder, those behind links as well; a link to a folder that it is in leads
    nowhere."""
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path, (*above, real))
        elif path.is_file():
            yield path


def content_hash(source: str) -> str:
    """Hash of a local model's files (names and contents); of one on a hub, what names it."""
    files = model_files(source)
    if not files:
        return source or "untrained"
    total = hashlib.sha256()
    for path in files:
        total.update(os.fsencode(path.name if path == Path(source) else path.relative_to(source)))
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def local_files(spec: ModelSpec) -> list[Path]:
    """Every local file that a model's images and scores depend on."""
    added = map(place_of, spec.additions)
    scoring = (spec.scorer, *(each.source for each in spec.metrics))
    named = (spec.source, spec.config, spec.vae, spec.controlnet, *scoring, *added)
    return [path for source in named if source for path in model_files(source)]


def fingerprint(spec: ModelSpec) -> str:
    """A hash of everything that is loaded to generate with a model."""
    named = (spec.source, spec.config, spec.vae)
    own = [*(source and content_hash(source) for source in named), spec.variant]
    added = [[_content(each) for each in spec.additions], spec.fused] if spec.additions else []
    task = [{"task": spec.task, "controlnet": spec.controlnet and content_hash(spec.controlnet)}]
    return digest([*own, *added, *(task if spec.task else [])])


def _content(addition: Addition) -> dict[str, Any]:
    """An addition, its file named by what it holds."""
    return {**to_json(addition), "source": content_hash(place_of(addition)), "weight_name": None}
