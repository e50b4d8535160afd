"""Finds how far a diffusion pipeline can be accelerated without visible loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffaccel.version import __version__

if TYPE_CHECKING:
    from diffaccel.recipes import Accelerated, RecipeError, apply, read_recipe

__all__ = ["Accelerated", "RecipeError", "__version__", "apply", "read_recipe"]


def __getattr__(name: str) -> Any:
    """What users of recipes need; imported when first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diffaccel import recipes

    return getattr(recipes, name)
