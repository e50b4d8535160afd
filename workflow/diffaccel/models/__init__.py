"""The model families, one file each; see `diffaccel.models.base` for what one declares."""

from __future__ import annotations

from diffaccel.models.base import Family, ModelError, content_hash, model_files
from diffaccel.records import ModelSpec
from diffaccel.registry import Registry

FAMILIES: Registry[Family] = Registry("diffaccel.models", "model family")


def known_models() -> dict[str, ModelSpec]:
    """Every model that needs no more than its name."""
    return {spec.name: spec for family in FAMILIES.values() for spec in family.known}


__all__ = ["FAMILIES", "Family", "ModelError", "content_hash", "known_models", "model_files"]
