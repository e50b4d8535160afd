"""Weight files: which belong to a part of a pipeline, whether they are whole, how large they are.

Only safetensors are loaded: a pickle can run any code while it is read.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError

PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_NAME = re.compile(
    r"(?:model|diffusion_pytorch_model)"
    r"(?:-\d+-of-\d+)?(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.safetensors"
)
_HEADER_LIMIT = 100_000_000  # of the format itself, in bytes


class ModelError(InputError):
    """A model cannot be loaded; says what was given and what to do."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds.

    Args:
        shapes: of the tensors, by name.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def names(self) -> frozenset[str]:
        """Of the tensors."""
        return frozenset(self.shapes)

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(map(math.prod, self.shapes.values()))


def read_header(path: Path) -> Header:
    """What a file holds, without reading its tensors.

    Source of the format: https://github.com/huggingface/safetensors (README, "Format").

    Raises:
        ModelError: the file is not safetensors, or a part of it is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER_LIMIT
        text = file.read(length) if length < min(size, _HEADER_LIMIT) else b""
    try:
        tensors: dict[str, Any] = json.loads(text)
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        header = Header({name: tuple(map(int, t["shape"])) for name, t in tensors.items()})
    except (ValueError, AttributeError, TypeError, LookupError):
        kind = "a Git LFS pointer" if start == b"version " else "not a safetensors file"
        raise ModelError(f"{path} ({size} bytes) is {kind}: fetch the file itself") from None
    if size != 8 + length + end:
        raise ModelError(
            f"{path} is not whole: it has {size} bytes of {8 + length + end}; fetch it again"
        )
    return header


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: there is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} holds no JSON object")
    return value


def weight_files(names: Collection[str], part: str, variant: str | None) -> list[str]:
    """The safetensors files of a part, of the variant where it has any, else the plain ones.

    Args:
        names: paths of all files, relative to the folder.
        part: the subfolder, or "" for the folder itself.
    """
    found: dict[str | None, list[str]] = {}
    for name in sorted(names):
        folder, _, file = name.rpartition("/")
        if folder == part and (match := _NAME.fullmatch(file)):
            found.setdefault(match["variant"], []).append(name)
    return found.get(variant) or found.get(None, [])


def check_weights(
    where: str, names: Collection[str], parts: Collection[str], variant: str | None
) -> list[str]:
    """The weight files of all parts.

    Args:
        where: folder or id, for the message.

    Raises:
        ModelError: a part has no safetensors, or the U-Net has none of this variant.
    """
    chosen = []
    for part in parts:
        files = weight_files(names, part, variant)
        if not files:
            raise ModelError(_no_weights(where, names, part))
        chosen += files
    variants = {match["variant"] for name in names if (match := _NAME.fullmatch(Path(name).name))}
    if variant is not None and variant not in variants:
        known = ", ".join(sorted(filter(None, variants))) or "none, so leave variant out"
        raise ModelError(f"{where} has no weights of the variant {variant!r}; it has: {known}")
    return chosen


def _no_weights(where: str, names: Collection[str], part: str) -> str:
    place = f"{where}: {part}" if part else where
    inside = [Path(name) for name in names if name.rpartition("/")[0] == part]
    pickles = sorted(path.name for path in inside if path.suffix in PICKLES)
    if pickles:
        return (
            f"{place} has only pickled weights ({', '.join(pickles)}), which are not loaded since "
            "reading a pickle can run any code. Convert them where you trust them: load the "
            "pipeline there and save_pretrained(folder), which writes safetensors"
        )
    variants = sorted(path.name for path in inside if path.suffix == ".safetensors")
    hint = f"; it has {', '.join(variants)}: set variant" if variants else ""
    return f"{place} has no .safetensors weights{hint}"


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Says of which model or part an error is."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{what}: {error}") from error.__cause__
