"""What is not known to be honest is refused with its line, by whatever way it is done."""

from __future__ import annotations

import pytest

from tests.judge.test_static import GENERATE, script, wrong

PARTS = [
    "pipe.unet.load_state_dict({})",
    "pipe.unet.conv_out.weight.data.zero_()",
    "pipe.unet.conv_out.weight.data[:] = 0",
    "torch.nn.init.zeros_(pipe.unet.conv_out.weight)",
    "torch.nn.Module.register_forward_hook(pipe.unet, lambda *args: None)",
    "torch.nn.Module.__call__ = None",
    "pipe.unet.apply(lambda module: None)",
    "pipe.vae = pipe.unet = torch.nn.Identity()",
    "pipe.image_processor.postprocess = lambda *args, **more: []",
    "pipe.safety_checker = lambda images, **more: (images[:1] * 4, None)",
    "pipe.config['a'] = 1",
    "pipe.register_modules(unet=None)",
    "pipe.tgate = lambda *args, **more: None",
    "pipe.unet.set_submodule('a', None)",
    "for name, each in pipe.components.items(): each.forward = None",
    "list(pipe.components.values())[0].forward = None",
    "StableDiffusionPipeline.check_inputs = lambda *args, **more: None",
    "torch.manual_seed.x = 1",
    "del pipe.scheduler.config",
    "import diffusers; diffusers.DDIMScheduler = None",
    "import diffusers; diffusers.schedulers.scheduling_ddim.DDIMScheduler.step = None",
]
"""Ways of changing a pipeline, a network, a class."""
SET = [
    "(s := pipe.scheduler).step = None",
    "for pipe.scheduler.step in [None]: pass",
    "with open('x') as pipe.scheduler.step: pass",
    "pipe.scheduler.num_train_timesteps //= 2",
    "pipe.scheduler.register_to_config(num_train_timesteps=10)",
    "import copy; s = copy.copy(pipe.scheduler); s.set_timesteps = None",
    "x = {'pipe': pipe}; x[input()].scheduler.step = None",
    "setattr(*[pipe.scheduler, 'step', None])",
    "list(map(setattr, [pipe.scheduler], ['step'], [None]))",
    "import functools; functools.partial(setattr, pipe.scheduler)('step', None)",
    "import builtins; builtins.setattr(pipe.scheduler, 'step', None)",
    "import threading; threading.Timer(1, setattr, [DDIMScheduler, 'step', None]).start()",
    "object.__setattr__(pipe.scheduler, 'step', None)",
    "[setattr(each, 'forward', None) for each in pipe.unet.modules()]",
    "import operator; operator.attrgetter('scheduler')(pipe).step = None",
    "getattr(pipe.unet, input())(None)",
    "torch.sys.modules.clear()",
    "import numpy; numpy.sys.modules",
    "import os; os.sys.modules",
    "import pickle; pickle.loads(b'')",
    "torch.load('x', weights_only=False)",
    "import numpy; numpy.load('x', allow_pickle=True)",
    "import timeit; timeit.timeit('1')",
    "import evil",
    "vars()['x'] = 1",
    "x: exec('1') = 1",
]
"""Ways of saying it."""
ODD = "setattr(DDIMScheduler, 'step', None)"
REACHED = [
    f"(lambda x={ODD}: None)()",
    f"def f(x={ODD}): pass",
    f"d = {{'f': lambda: {ODD}}}; d['f']()",
    f"d = {{'f': lambda: {ODD}}}; d.get('f')()",
    f"sorted([1], key=lambda x: {ODD})",
    f"import functools; functools.reduce(lambda a, b: {ODD}, [1, 2])",
    f"import threading; threading.Thread(target=lambda: {ODD}).start()",
    f"f = print\n    if input(): f = lambda: {ODD}\n    f()",
    f"try:\n        pass\n    except Exception as e:\n        {ODD}",
    f"def g():\n        {ODD}\n        yield\n    next(g())",
    f"async def f(): {ODD}\n    import asyncio; asyncio.run(f())",
    f"match (lambda: {ODD}):\n        case f: f()",
    f"class A:\n        def __del__(self): {ODD}\n    A()",
    f"class A:\n        @property\n        def x(self): {ODD}\n    A().x",
    f"class A:\n        @property\n        def x(self): pass\n        @x.setter\n"
    f"        def x(self, v): {ODD}\n    A().x = 1",
    "class A:\n        DDIMScheduler.step = None",
    f"class A:\n        if 1: {ODD}",
    f"class M(type):\n        def __init__(c, *a): {ODD}\n    class A(metaclass=M): pass",
]
"""Where it may stand."""


@pytest.mark.parametrize("line", [*PARTS, *SET, *REACHED])
def test_it_is_refused(line: str) -> None:
    assert "line " in wrong(script(line)).get("known", "")


def test_what_was_there_before_is_told_by_its_own_line() -> None:
    source = script(
        generate=GENERATE.replace("    return", "    pipe.unet.forward = odd()\n    return")
    )
    source += "def odd():\n    return None\n"
    line = source[: source.index("pipe.unet")].count("\n") + 1
    assert wrong(source) == {
        "known": f"line {line} sets .forward of pipe.unet: what that changes is not known"
    }


def test_what_is_not_reached_is_not_looked_at() -> None:
    assert wrong(script() + "def odd(pipe): pipe.unet.forward = None\n") == {}


def test_a_script_may_do_with_its_own_as_it_likes() -> None:
    own = "class A:\n        pass\n    A.x = 1; a = A(); a.y = 2; setattr(a, 'z', 3); del a.z"
    assert wrong(script(own)) == {}
