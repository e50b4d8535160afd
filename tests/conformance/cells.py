"""What every accelerator and every combination must hold to, on every layout and sampler.

One file for each layout inherits these tests, so that they run side by side.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from diffaccel.plugins.accelerators import ACCELERATORS, Combination, PipelineSpec, combination
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import scheduler_named
from diffaccel.plugins.space import Space, nest
from diffaccel.recipes.codegen import Script, render

from .generating import (
    GUIDANCE,
    PROMPTS,
    STEPS,
    Images,
    Parameters,
    decoded,
    first_input,
    generate,
)
from .reference import by_hand
from .trace import Seen, expected, trace
from .upstream import documented

GRID = ("DDIM", "DPM-Solver++", "UniPCMultistepScheduler")
SCHEDULERS = tuple(scheduler_named(name).diffusers for name in GRID)
"""Of the grid. What the others do is in `test_samplers`."""
SIX = (
    ("deepcache",),
    ("tgate",),
    ("tome",),
    ("deepcache", "tome"),
    ("deepcache", "tgate"),
    ("deepcache", "tgate", "tome"),
)
"""The accelerators and combinations of the grid; each with every sampler."""
FURTHER = tuple(name for name in ACCELERATORS if (name,) not in SIX)
"""Accelerators beyond: each alone and, if it goes with them, with all three, on one layout with
one sampler."""

OTHERS = (*PROMPTS[::-1], "a dot")
"""An odd batch, of other prompts."""


@dataclass(frozen=True)
class Subject:
    """A baseline pipeline with a sampler set, in memory and as a folder.

    Args:
        plain: its images.
        noise: what they begin with.
        layers: what runs at each step.
    """

    scheduler: str
    folder: Path
    pipe: Any
    pipeline: PipelineSpec
    plain: Images
    noise: torch.Tensor
    layers: Seen
    _generated: dict[str, tuple[Images, list[Seen]]] = field(default_factory=dict)

    @classmethod
    def of(cls, family: str, scheduler: str, folder: Path) -> Subject:
        import diffusers

        pipe = tiny.FAMILIES[family](0)
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
        noise = first_input(pipe, lambda: generate(pipe))
        plain, layers = trace(pipe, lambda: generate(pipe))
        return cls(scheduler, folder, pipe, pipeline, plain, noise, layers[0])

    def generated(self, chosen: Combination, parameters: Parameters) -> tuple[Images, list[Seen]]:
        """Images with a candidate applied, and the layers that ran at each step; generated once.

        Layers are not watched under an accelerator beyond the six, which may compile them.
        """
        key = str(parameters)
        if key not in self._generated:
            with chosen.applied(self.pipe, parameters) as call:
                watched = tuple(parameters) in SIX
                self._generated[key] = (
                    trace(self.pipe, lambda: generate(call)) if watched else (generate(call), [])
                )
        return self._generated[key]

    def scripted(self, chosen: Combination | None, parameters: Parameters) -> Any:
        """The generated script as a module."""
        return scripted(self.folder, self.scheduler, self.pipeline, chosen, parameters)


Subjects = Callable[[str, str], Subject]


def assert_same(chosen: Combination, images: Images, expected: Images, why: object = "") -> None:
    """Equal in every bit, or as near as the least exact of the accelerators claims to be."""
    tolerance = max(member.tolerance for member in chosen.members)
    np.testing.assert_allclose(images, expected, rtol=0, atol=tolerance, err_msg=str(why))


def cells(family: str) -> pytest.MarkDecorator:
    """Runs each test of a class with every sampler and combination that a layout is tested on.

    `make test` has each combination with one sampler on the first layout, a third of them on each
    of the others; `make test-long` has the rest, and all that is compiled.
    """
    found = [(scheduler, names) for scheduler in SCHEDULERS for names in SIX]
    layout = list(tiny.FAMILIES).index(family)
    if layout == 0:
        found += [
            (SCHEDULERS[0], names)
            for each in FURTHER
            for names in ((each,), (*SIX[-1], each))
            if combination(names).conflict is None
        ]
    marked = [
        pytest.param(
            scheduler, names, marks=[pytest.mark.long] * _is_long(layout, scheduler, names)
        )
        for scheduler, names in found
    ]
    return pytest.mark.parametrize(
        ("scheduler", "names"),
        marked,
        ids=[f"{name.removesuffix('Scheduler')}-{'+'.join(names)}" for name, names in found],
    )


def _is_long(layout: int, scheduler: str, names: tuple[str, ...]) -> bool:
    if names not in SIX:
        return "compile" in names
    if layout > 0 and SIX.index(names) % 3 != layout:
        return True
    return (SCHEDULERS.index(scheduler) + SIX.index(names) + layout) % len(SCHEDULERS) > 0


@functools.cache
def candidates(chosen: Combination, pipeline: PipelineSpec, seed: str) -> tuple[Parameters, ...]:
    """The mildest, one at random, and the most aggressive; beyond the six, one at random."""
    space = chosen.space(pipeline)
    if set(chosen.names) & set(FURTHER):
        return (generated(space, seed),)
    return nest(next(space.points())), generated(space, seed), last(space)


def last(space: Space) -> Parameters:
    """The most aggressive allowed candidate."""
    axes = (dataclasses.replace(axis, values=axis.values[::-1]) for axis in space.axes)
    return nest(next(dataclasses.replace(space, axes=tuple(axes)).points()))


def generated(space: Space, seed: str) -> Parameters:
    """An allowed candidate at random, without walking through the space."""
    rng = random.Random(seed)
    for _ in range(100_000):
        point = {axis.name: rng.choice(axis.values) for axis in space.axes}
        if space.forbids(point) is None:
            return nest(point)
    raise AssertionError(f"no allowed point found in {space.axes}")


def tree(pipe: Any) -> list[Any]:
    """All that patching could change: classes, attributes, members, hooks, by identity."""
    found: list[Any] = [(type(pipe), {key: id(value) for key, value in vars(pipe).items()})]
    parts = [part for part in vars(pipe).values() if isinstance(part, torch.nn.Module)]
    for module in (module for part in parts for module in part.modules()):
        attributes = {key: id(value) for key, value in vars(module).items()}
        held = {
            key: [(name, id(each)) for name, each in value.items()]
            for key, value in vars(module).items()
            if isinstance(value, dict) and (key.startswith("_") and "config" not in key)
        }
        found.append((type(module), attributes, held))
    return found


def scripted(
    folder: Path,
    scheduler: str,
    pipeline: PipelineSpec,
    chosen: Combination | None,
    parameters: Parameters,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """The generated script as a module, with its ``source``."""
    side = 2 * tiny.LATENT_SIZE
    script = Script(
        description="a test",
        model=str(folder),
        pipeline_class=pipeline.pipeline_class,
        scheduler_class=scheduler,
        scheduler_options=options or {},
        steps=STEPS,
        guidance_scale=GUIDANCE,
        height=side,
        width=side,
        dtype="float32",
        title=chosen.title if chosen else "",
        parameters=parameters,
        parts=chosen.emit(parameters, pipeline) if chosen else (),
    )
    module = types.ModuleType("script")
    vars(module)["source"] = source = render(script)
    exec(compile(source, "script.py", "exec"), vars(module))
    return module


class Cells:
    """The tests; a subclass names the layout and has `cells` of it."""

    family: ClassVar[str]

    @pytest.fixture
    def subject(self, subjects: Subjects, scheduler: str) -> Subject:
        return subjects(self.family, scheduler)

    @pytest.fixture
    def chosen(self, subject: Subject, names: tuple[str, ...]) -> Combination:
        found = combination(names)
        ok, reason = found.supports(subject.pipeline)
        assert ok or set(names) & set(FURTHER), reason
        if not ok:
            pytest.skip(reason)
        return found

    @pytest.fixture
    def several(self, subject: Subject, chosen: Combination) -> tuple[Parameters, ...]:
        return candidates(chosen, subject.pipeline, f"{self.family} {subject.scheduler}")

    def test_twice_is_once_and_nothing_stays(
        self, subject: Subject, chosen: Combination, several: tuple[Parameters, ...]
    ) -> None:
        pipe, parameters = subject.pipe, several[len(several) // 2]
        once, _ = subject.generated(chosen, parameters)
        before = tree(pipe)
        with chosen.applied(pipe, parameters) as call:
            state = torch.get_rng_state()
            generate(call, OTHERS)  # what ran before must not matter
            assert torch.equal(torch.get_rng_state(), state)
            torch.rand(1)
            with chosen.applied(pipe, parameters) as call_again:
                assert_same(chosen, generate(call_again), once)
            noise = first_input(pipe, lambda: assert_same(chosen, generate(call), once))
            assert torch.equal(noise, subject.noise)
        assert tree(pipe) == before
        np.testing.assert_equal(generate(pipe), subject.plain)

    def test_images_are_those_of_documented_usage(
        self, subject: Subject, chosen: Combination, several: tuple[Parameters, ...]
    ) -> None:
        for parameters in several:
            images, _ = subject.generated(chosen, parameters)
            assert np.isfinite(images).all(), parameters
            if not set(chosen.names) <= set(FURTHER):
                assert not np.array_equal(images, subject.plain), parameters
            pipe = tiny.FAMILIES[self.family](0)
            assert_same(chosen, images, documented(pipe, subject.scheduler, parameters), parameters)

    def test_scripts_generate_the_same_and_leave_the_pipeline_plain(
        self, subject: Subject, chosen: Combination, several: tuple[Parameters, ...]
    ) -> None:
        def images(script: Any) -> Images:
            seeds = list(range(len(PROMPTS)))
            return decoded(pipe, lambda: script.generate(pipe, list(PROMPTS), seeds))

        plain = subject.scripted(None, {})
        pipe = plain.load_pipeline(device="cpu")
        pipe.set_progress_bar_config(disable=True)
        for parameters in several[-2:]:
            script = subject.scripted(chosen, parameters)
            assert_same(
                chosen, images(script), subject.generated(chosen, parameters)[0], parameters
            )
        np.testing.assert_equal(images(plain), subject.plain)

    def test_the_layers_run_that_should(
        self, subject: Subject, chosen: Combination, several: tuple[Parameters, ...]
    ) -> None:
        """At each step, on as many images and tokens as the parameters say; no others."""
        if chosen.names not in SIX:
            pytest.skip("its layers are not watched")
        for parameters in several:
            _, layers = subject.generated(chosen, parameters)
            assert layers == expected(subject.pipe, subject.layers, parameters), parameters
            assert layers != [subject.layers] * STEPS, parameters

    def test_images_are_those_of_the_method_by_hand(
        self, subject: Subject, chosen: Combination, several: tuple[Parameters, ...]
    ) -> None:
        if chosen.names not in SIX:
            pytest.skip("not written out by hand")
        parameters = several[1]
        generate = functools.partial(by_hand, parameters=parameters)
        merged = {name: part for name, part in parameters.items() if name == "tome"}
        reference = documented(tiny.FAMILIES[self.family](0), subject.scheduler, merged, generate)
        images, _ = subject.generated(chosen, parameters)
        np.testing.assert_equal(images, reference, err_msg=str(parameters))
