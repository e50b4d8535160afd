"""The model families, one file each; see `diffaccel.plugins.models.base` for what one declares."""

from __future__ import annotations

from diffaccel.plugins.models._files import content_hash, fingerprint, local_files
from diffaccel.plugins.models._layout import Layout, layout_of, sampling_told
from diffaccel.plugins.models._memory import ITEMSIZES, decoding_bytes, resolve_dtype
from diffaccel.plugins.models._parts import fetch_scorer
from diffaccel.plugins.models._spec import ModelSpec
from diffaccel.plugins.models._weights import ModelError
from diffaccel.plugins.models.base import Family
from diffaccel.registry import Registry

FAMILIES: Registry[Family] = Registry("diffaccel.plugins.models", "model family")


def known_models() -> dict[str, ModelSpec]:
    """Every model that needs no more than its name."""
    return {spec.name: spec for family in FAMILIES.values() for spec in family.known}


def family_of(source: str) -> str | None:
    """The family of a local pipeline; None where the source does not tell, or none fits."""
    layout = layout_of(source)
    return family_fitting(layout) if layout else None


def family_fitting(layout: Layout) -> str | None:
    """The family that a layout belongs to, or None."""
    return next((name for name, family in FAMILIES.items() if family.fits(layout)), None)


__all__ = [
    "FAMILIES",
    "ITEMSIZES",
    "Family",
    "Layout",
    "ModelError",
    "content_hash",
    "decoding_bytes",
    "family_fitting",
    "family_of",
    "fetch_scorer",
    "fingerprint",
    "known_models",
    "layout_of",
    "local_files",
    "resolve_dtype",
    "sampling_told",
]
