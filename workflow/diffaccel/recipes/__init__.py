"""What comes out: recipes and scripts of what was measured, and which of them to use.

`known` reads what was measured of a configuration, `advice` says what to use, and `recommend`
answers a request. A `recipe` is that as a small file, `applied` puts it on a pipeline, `scripts`
and `codegen` write it as a script: `additions` loads what a model has on top, `edits` the images
that a task takes, and `literals` writes values as Python.
"""

from __future__ import annotations

from diffaccel.recipes.applied import Accelerated, apply
from diffaccel.recipes.recipe import Recipe, RecipeError, read_recipe, recipe_of

__all__ = ["Accelerated", "Recipe", "RecipeError", "apply", "read_recipe", "recipe_of"]
