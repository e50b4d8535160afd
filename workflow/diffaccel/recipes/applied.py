"""Recipes put on anyone's pipeline.

Loading this module loads neither torch nor diffusers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import Combination, PipelineSpec, UnsupportedError, combination
from diffaccel.plugins.accelerators._unpatched import PLAIN
from diffaccel.plugins.models import FAMILIES, family_fitting
from diffaccel.plugins.models._additions import mend_clip_skip
from diffaccel.plugins.models._layout import Layout, text_width
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, SETTINGS, SIZE, class_for
from diffaccel.plugins.schedulers import (
    SchedulerError,
    SchedulerSpec,
    made,
    options_for,
    own_config,
)
from diffaccel.plugins.space import flatten, in_words
from diffaccel.recipes.recipe import Recipe, RecipeError, read_recipe

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)


def apply(
    pipe: DiffusionPipeline,
    recipe: Recipe | str | PathLike[str],
    *,
    keep_sampler: bool = False,
) -> Accelerated:
    """Puts a recipe on a loaded pipeline until it is removed.

    The pipeline gets the recipe's sampler, too, made from its own sampler's configuration as in the
    generated scripts. Whatever is otherwise than it was measured, sampler or steps, is logged as a
    warning.

    ::

        with diffaccel.apply(pipe, "recipe.json") as fast:
            image = fast("a red square").images[0]

        fast = diffaccel.apply(pipe, "recipe.json")
        image = fast("a red square").images[0]
        fast.remove()

    Args:
        pipe: of the recipe's family, on any device.
        recipe: the record, or its file.
        keep_sampler: the pipeline's own is used, whatever the recipe was measured with.

    Raises:
        RecipeError: the pipeline is of another family or has a recipe on it, or the parameters are
            out of range for it or for the recipe's steps.
        InputError: the file is no recipe, or an accelerator or the scheduler is not known here.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(Path(recipe))
    return Accelerated(pipe, recipe, keep_sampler=keep_sampler)


class Accelerated:
    """A pipeline with a recipe on it; called in the pipeline's place, and a context manager.

    Whatever is set on the pipeline before `remove` is undone by it, so that the pipeline is bit for
    bit what it was. Not for several threads on one pipeline.
    """

    def __init__(
        self, pipe: DiffusionPipeline, recipe: Recipe, *, keep_sampler: bool = False
    ) -> None:
        combined = _checked(pipe, recipe)
        _say_what_is_missing(pipe, recipe)
        self.recipe = recipe
        self._pipe = pipe
        self._said: set[object] = {recipe.steps, f"strength {recipe.strength}"}
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_sampled(pipe, recipe, keep_sampler))
                if (reason := _misfit(pipe, recipe)) is not None:
                    raise UnsupportedError(reason)
                self._call = stack.enter_context(combined.applied(pipe, recipe.parameters))
            except (SchedulerError, UnsupportedError) as error:
                raise RecipeError(
                    f"{_named(recipe)} cannot be put on this pipeline: {error}"
                ) from None
            if recipe.clip_skip:
                mend_clip_skip(pipe)  # which is undone with all else
            self._on = stack.pop_all()
        self.removed = False

    def __call__(self, prompt: Any = None, **arguments: Any) -> Any:
        """Calls the accelerated pipeline.

        Args:
            prompt: one, or a list; or None where ``arguments`` have its embeddings.
            arguments: as the pipeline takes them, all by name. Steps, guidance scale and its
                rescaling, image size, skipped layers, strength and the ControlNet's scale are the
                recipe's where they are not given. A negative prompt and images are not.

        Raises:
            RecipeError: the parameters mean nothing in so many steps or cannot work at that size,
                or the times of the steps are given; or the recipe was removed.
        """
        if self.removed:
            raise RecipeError(f"{_named(self.recipe)} was removed: put it on again with apply")
        steps = arguments.setdefault("num_inference_steps", self.recipe.steps)
        others = [name for name in ("timesteps", "sigmas") if arguments.get(name) is not None]
        if others:
            raise RecipeError(
                f"{_named(self.recipe)} counts steps, and is not for {' and '.join(others)} of "
                "one's own: give num_inference_steps"
            )
        task = PIPELINE_TASKS[self.recipe.task] if self.recipe.task else None
        usual = {name: name for name in ("guidance_scale", "clip_skip", "guidance_rescale")}
        if task is None or task.sized:
            usual |= {name: name for name in SIZE}
        for name, argument in {**usual, **SETTINGS}.items():
            if (measured := getattr(self.recipe, name)) is not None:
                arguments.setdefault(argument, measured)
        # None is a size as well: as the pipeline is made for.
        height, width = (arguments.get(name) or getattr(self.recipe, name) for name in SIZE)
        strength = arguments.get("strength", self.recipe.strength)
        called = replace(self.recipe, steps=steps, height=height, width=width, strength=strength)
        self._check(called)
        return self._call(prompt, **arguments)

    def _check(self, called: Recipe) -> None:
        """Says once of each number of steps that it is not the one that was measured.

        Args:
            called: the recipe, with the steps and the size that are asked for.
        """
        if called == self.recipe:
            return
        _check_count(self.recipe, called.steps)
        if (said := f"strength {called.strength}") not in self._said:
            self._said.add(said)
            log.warning(
                "the recipe was measured at strength %s: at %s, speedup and loss are others",
                self.recipe.strength,
                called.strength,
            )
        if (reason := _misfit(self._pipe, called)) is not None:
            raise RecipeError(
                f"{_named(self.recipe)} cannot be used in {called.steps} steps at "
                f"{called.width}x{called.height} pixels: {reason}"
            )
        if called.steps not in self._said:
            self._said.add(called.steps)
            log.warning(
                "the recipe was measured at %d steps: at %d, speedup and loss are others",
                self.recipe.steps,
                called.steps,
            )

    def remove(self) -> None:
        """Takes the recipe off; done again, nothing happens."""
        self._on.close()
        self.removed = True

    def __enter__(self) -> Accelerated:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<{_named(self.recipe)}{', removed' if self.removed else ''}>"


def _named(recipe: Recipe) -> str:
    return (
        f"the recipe for {Configuration(recipe.model, recipe.scheduler, recipe.steps).title} "
        f"({in_words(recipe.parameters)})"
    )


def _checked(pipe: DiffusionPipeline, recipe: Recipe) -> Combination:
    """The recipe's accelerators, once it is clear that they are for such a pipeline.

    Raises:
        RecipeError: they are not.
        UnknownNameError: the family, the scheduler or an accelerator is not known here.
    """
    family = FAMILIES[recipe.family]
    kind, found = type(pipe).__name__, _family(pipe)
    wanted = class_for(recipe.task, family.pipeline_class)
    if found != recipe.family or kind != wanted:
        raise RecipeError(
            f"{_named(recipe)} is for a {wanted} of the family {recipe.family}; "
            f"this is a {kind} of {f'the family {found}' if found else 'no known family'}"
        )
    if PLAIN in vars(pipe):
        raise RecipeError("this pipeline has a recipe on it already: remove that one first")
    if not recipe.parameters:
        raise RecipeError(f"{_named(recipe)} names no accelerator")
    _check_count(recipe, recipe.steps)
    return combination(sorted(recipe.parameters))


def _check_count(recipe: Recipe, steps: int) -> None:
    if steps < 1:
        raise RecipeError(f"{_named(recipe)}: the steps must be 1 or more, not {steps}")


def _say_what_is_missing(pipe: DiffusionPipeline, recipe: Recipe) -> None:
    """Warns where the recipe was measured with a LoRA or a word that the pipeline has not. What was
    merged into its weights elsewhere cannot be told."""
    parts = [getattr(pipe, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
    loaded = any(getattr(part, "peft_config", None) for part in parts)
    if recipe.lora and not loaded and not getattr(pipe, "num_fused_loras", 0):
        named = ", ".join(f"{each.source} (weight {each.weight:g})" for each in recipe.lora)
        log.warning(
            "the recipe was measured with a LoRA: %s. This pipeline has none, unless it is in its "
            "weights: its loss is another",
            named,
        )
    known = pipe.tokenizer.get_vocab() if recipe.textual_inversion else {}
    for each in recipe.textual_inversion:
        if each.token not in known:
            log.warning(
                "the recipe was measured with the textual inversion %s: this pipeline does not "
                "know its token %r",
                each.source,
                each.token,
            )


def _misfit(pipe: DiffusionPipeline, recipe: Recipe) -> str | None:
    """Why a candidate cannot be used in so many steps on such a pipeline, or None."""
    combined = combination(sorted(recipe.parameters))
    pipeline = PipelineSpec.of(
        pipe,
        steps=recipe.steps,
        guidance_scale=recipe.guidance_scale,
        size=(recipe.height, recipe.width),
        strength=recipe.strength,
    )
    supported, reason = combined.supports(pipeline)
    if not supported:
        return reason
    return combined.forbids(recipe.parameters) or combined.space(pipeline).forbids(
        flatten(recipe.parameters)
    )


def _family(pipe: DiffusionPipeline) -> str | None:
    """The family of a loaded pipeline, or None."""
    unet, scheduler = getattr(pipe, "unet", None), getattr(pipe, "scheduler", None)
    if unet is None or scheduler is None:
        return None
    return family_fitting(
        Layout(
            pipeline_class=type(pipe).__name__,
            context=text_width(unet.config),
            prediction=scheduler.config.get("prediction_type", "epsilon"),
            image_size=None,
        )
    )


@contextlib.contextmanager
def _sampled(pipe: DiffusionPipeline, recipe: Recipe, keep: bool) -> Iterator[None]:
    """A block in which the pipeline has the recipe's sampler; it keeps its own that is the same, or
    any."""
    wanted, config = recipe.sampler, own_config(pipe.scheduler)
    options = options_for(wanted, config)
    there = {name: config[name] for name in options if name in config}
    own = SchedulerSpec("its own", type(pipe.scheduler).__name__, there)
    before = dict(vars(pipe))
    if (own.diffusers, own.options) != (wanted.diffusers, options):
        if keep:
            said = "the recipe was measured with %s: with %s, its loss is another"
        else:
            said = "the recipe is for %s: used in place of %s until it is removed"
            pipe.scheduler = made(wanted, config, options, recipe.steps)
        log.warning(said, wanted.key, own.key)
    try:
        yield
    finally:
        # All of them: the pipeline's configuration names its sampler, too.
        vars(pipe).clear()
        vars(pipe).update(before)
