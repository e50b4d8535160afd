"""What every accelerator and every combination must hold to, on every layout and sampler."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffaccel import tiny
from diffaccel.accelerators import ACCELERATORS, Combination, combination
from diffaccel.space import Space, Value, nest

from .conftest import PROMPTS, Images, Subject, first_input, generate

Subjects = Callable[[str, str], Subject]
Setting = dict[str, dict[str, Value]]

SCHEDULERS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
TOGETHER = (("deepcache", "tome"), ("deepcache", "tgate"), ("deepcache", "tgate", "tome"))
EVERY = tuple((name,) for name in ACCELERATORS) + TOGETHER

cells = pytest.mark.parametrize(
    ("family", "scheduler", "names"),
    [
        pytest.param(*cell, id=f"{cell[0]}-{cell[1].removesuffix('Scheduler')}-{'+'.join(cell[2])}")
        for cell in itertools.product(tiny.FAMILIES, SCHEDULERS, EVERY)
    ],
)


def drawn(space: Space, seed: str, *, grid: bool = False) -> Setting:
    """An allowed setting at random, without walking through the space."""
    rng = random.Random(seed)
    for _ in range(100_000):
        point = {a.name: rng.choice(a.grid if grid else a.values) for a in space.axes}
        if space.forbids(point) is None:
            return nest(point)
    raise AssertionError(f"no allowed point found in {space.axes}")


def last(space: Space) -> Setting:
    """The most aggressive allowed setting."""
    axes = (replace(axis, values=axis.values[::-1]) for axis in space.axes)
    return nest(next(replace(space, axes=tuple(axes)).points()))


def some_settings(space: Space, scheduler: str, seed: str) -> Iterator[Setting]:
    """One of the corners, another with each sampler, and one or two at random."""
    corner = SCHEDULERS.index(scheduler)
    yield (nest(next(space.points())), last(space), drawn(space, f"other {seed}"))[corner]
    yield drawn(space, seed)


def tree(pipe: Any) -> list[Any]:
    """All that patching could change: classes, attributes, hooks; of a module by identity."""
    found: list[Any] = [(type(pipe), sorted(vars(pipe)))]
    for name, module in pipe.unet.named_modules():
        attributes = {key: id(value) for key, value in vars(module).items()}
        hooks = [list(value) for key, value in vars(module).items() if key.endswith("_hooks")]
        found.append((name, type(module), attributes, hooks))
    return found


def emitted(chosen: Combination, setting: Setting, subject: Subject) -> Images:
    """Images by the emitted source, run as a script would run it."""
    parts = chosen.emit(setting, subject.facts)
    arguments = "".join(f", {k}={v}" for part in parts for k, v in part.arguments)
    call = next((part.call for part in parts if part.call != "pipe"), "pipe")
    body = [
        *(line for part in parts for line in part.enter),
        f"images = generate(lambda *args, **kwargs: {call}(*args, **kwargs{arguments}))",
        *(line for part in reversed(parts) for line in part.leave),
        "return images",
    ]
    lines = [line for part in parts for line in part.imports]
    lines += ["def run(pipe):", *(f"    {line}" for line in body)]
    names: dict[str, Any] = {"generate": generate}
    exec("\n".join(lines), names)
    images: Images = names["run"](subject.pipe)
    return images


def documented(pipe: Any, setting: Setting) -> Images:
    """Images by the packages' own documented usage, on a pipeline that is thrown away."""
    import tgate
    import tomesd
    from DeepCache import DeepCacheSDHelper

    xl = "XL" if "XL" in type(pipe).__name__ else ""
    call = pipe
    if "tgate" in setting and "deepcache" in setting:
        load = getattr(tgate, f"TgateSD{xl}DeepCacheLoader")
        pipe = load(pipe, **setting["deepcache"])
    elif "tgate" in setting:
        pipe = getattr(tgate, f"TgateSD{xl}Loader")(pipe)
    elif "deepcache" in setting:
        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(**setting["deepcache"])
        helper.enable()
    if "tgate" in setting:

        def call(*args: Any, **kwargs: Any) -> Any:
            return pipe.tgate(*args, **setting["tgate"], **kwargs)

    if "tome" in setting:
        tomesd.apply_patch(pipe, **setting["tome"])
        torch.manual_seed(0)
    return generate(call)


def test_every_accelerator_is_compared_with_its_own_package() -> None:
    assert set(ACCELERATORS) == {"deepcache", "tgate", "tome"}, "extend documented()"


@cells
def test_one_setting_thoroughly(
    subjects: Subjects, family: str, scheduler: str, names: tuple[str, ...]
) -> None:
    subject, chosen = subjects(family, scheduler), combination(names)
    pipe = subject.pipe
    assert chosen.supports(subject.facts) == (True, "")
    setting = drawn(chosen.space(subject.facts), f"{family} {scheduler} {names}", grid=True)
    before = tree(pipe)

    with chosen.applied(pipe, setting) as call:
        state = torch.get_rng_state()
        once = generate(call)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)  # what ran before must not matter
        other = generate(call, PROMPTS[::-1])  # an odd batch, of other prompts
        with chosen.applied(pipe, setting) as call_again:
            np.testing.assert_equal(generate(call_again), once)
        noise = first_input(pipe, lambda: np.testing.assert_equal(generate(call), once))
        assert torch.equal(noise, subject.noise)
    assert not np.array_equal(once, subject.plain)
    assert tree(pipe) == before

    with chosen.applied(pipe, setting) as call:
        np.testing.assert_equal(generate(call, PROMPTS[::-1]), other)
    np.testing.assert_equal(documented(copy.deepcopy(pipe), setting), once)
    np.testing.assert_equal(emitted(chosen, setting, subject), once)
    np.testing.assert_equal(generate(pipe), subject.plain)


@cells
def test_corners_and_random_settings(
    subjects: Subjects, family: str, scheduler: str, names: tuple[str, ...]
) -> None:
    subject, chosen = subjects(family, scheduler), combination(names)
    space = chosen.space(subject.facts)
    for setting in some_settings(space, scheduler, f"{family} {scheduler} {names}"):
        before = tree(subject.pipe)
        with chosen.applied(subject.pipe, setting) as call:
            images = generate(call)
        assert np.isfinite(images).all(), setting
        assert not np.array_equal(images, subject.plain), setting
        assert tree(subject.pipe) == before, setting
        np.testing.assert_equal(emitted(chosen, setting, subject), images, err_msg=str(setting))
    np.testing.assert_equal(generate(subject.pipe), subject.plain)
