"""Reading scripts: the many ways in which people write the same, and what only looks like it."""

from __future__ import annotations

import itertools
import random
import runpy
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffaccel.benchmark import prompt_set
from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration
from diffaccel.benchmark.judge.static import LOOKED_AT, Wanted, examine
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec, combination
from diffaccel.plugins.models import known_models
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.space import nest
from diffaccel.recipes import scripts as code
from diffaccel.recipes.codegen import Script, render

GOLDEN = runpy.run_path(str(Path(__file__).parents[1] / "golden/regenerate.py"))
CANDIDATES = GOLDEN["CANDIDATES"]
WANTED = Wanted(
    pipeline_class="StableDiffusionPipeline",
    source="models/one",
    scheduler_class="DDIMScheduler",
    own_scheduler=None,
    steps=20,
    accelerators=frozenset(),
)


def wrong(source: str, /, **changes: object) -> dict[str, str]:
    """What is wrong with a script, by what was looked at."""
    found = examine(source.encode(), replace(WANTED, **changes))  # type: ignore[arg-type]
    return {name: text for name, text in found.items() if text}


# Our own scripts


KINDS = {"StableDiffusionPipeline": (1, 2, 4, 8), "StableDiffusionXLPipeline": (2, 4)}
"""Class of pipeline -> levels that have transformer blocks."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [each for each in CANDIDATES if each != "fewer_steps"])
def test_own_scripts_are_what_they_say_and_nothing_else(names: str, kind: str) -> None:
    parameters = CANDIDATES[names]
    pipeline = PipelineSpec(kind, 20, (3, 3, 3, 2), KINDS[kind])
    parts = combination(list(parameters)).emit(parameters, pipeline) if parameters else ()
    script = Script("", "models/one", kind, "DDIMScheduler", 20, 7.5, 512, 512, parts=parts)
    source, used = render(script), frozenset(parameters)
    assert wrong(source, pipeline_class=kind, accelerators=used) == {}
    for name in ACCELERATORS:
        other = frozenset({name}) ^ used
        assert list(wrong(source, pipeline_class=kind, accelerators=other)) == ["accelerators"]
    changes: dict[str, dict[str, object]] = {
        "pipeline": {"pipeline_class": "PixArtAlphaPipeline"},
        "model": {"source": "models/two"},
        "scheduler": {"scheduler_class": "UniPCMultistepScheduler"},
        "steps": {"steps": 25},
    }
    for check, change in changes.items():
        wanted = {"pipeline_class": kind, "accelerators": None, **change}
        assert list(wrong(source, **wanted)) == [check]


def test_scripts_of_the_benchmark_fit_their_prompts_and_no_others() -> None:
    """One in seven of the prompts, each with a script of our own and a mild candidate."""
    levels = {"SD1.5": (1, 2, 4, 8), "SD2.1": (1, 2, 4, 8), "SDXL": (2, 4)}
    wanted, sources = [], []
    for prompt in prompt_set.prompts(prompt_set.grid())[::7]:
        each, spec = prompt.request, known_models()[prompt.request.model]
        configuration = Configuration(each.model, each.scheduler, each.steps)
        judged_by = JudgeConfiguration(
            configuration, spec, MeasureOptions(), JudgeOptions(), 0.02, "cpu"
        )
        wanted.append(judged_by.wanted(each))
        kind = wanted[-1].pipeline_class
        pipeline = PipelineSpec(kind, each.steps, (3, 3, 3, 2), levels[each.model])
        script = code._baseline(spec, configuration, prompt.text)
        if each.accelerators:
            combined = combination(each.accelerators)
            parameters = nest(next(iter(combined.space(pipeline).on_grid().points())))
            script = replace(script, parts=combined.emit(parameters, pipeline))
        sources.append(render(script).encode())
    for number, source in enumerate(sources):
        assert not any(examine(source, wanted[number]).values())
        other = (number * 89 + 1) % len(wanted)
        if wanted[other] != wanted[number]:
            assert any(examine(source, wanted[other]).values())


@pytest.mark.parametrize(
    "model", ["a/b@0123456789012345678901234567890123456789", "one.safetensors"]
)
def test_own_scripts_of_other_sources(model: str) -> None:
    config = "c/d@main" if model == "one.safetensors" else None
    kind, sampler = "StableDiffusionPipeline", "DDIMScheduler"
    script = Script("", model, kind, sampler, 20, 7.5, 8, 8, vae="e/f@main", config=config)
    assert wrong(render(script), source=model.partition("@")[0]) == {}


def test_own_scripts_with_a_lora_and_all_else() -> None:
    """By its own file, or from a hub; beside the weights or in them."""
    word = TextualInversion("words/x.safetensors", "<x>")
    for kind, lora, fused in itertools.product(
        KINDS,
        (Lora("loras/a", 0.5, "b.safetensors"), Lora("e/f@main", 1.0, "b.safetensors")),
        (0, 1),
    ):
        script = Script("", "models/one", kind, "DDIMScheduler", 20, 7.5, 8, 8)
        plain = replace(script, negative_prompt="dim", clip_skip=1, guidance_rescale=0.5)
        source = render(replace(plain, lora=(lora,), fused=bool(fused), textual_inversion=(word,)))
        assert wrong(source, pipeline_class=kind, lora=True) == {}
        assert list(wrong(source, pipeline_class=kind)) == ["lora"]
        assert list(wrong(render(plain), pipeline_class=kind, lora=True)) == ["lora"]
        taken_off = source.replace(
            "    pipe.scheduler =", "    pipe.unload_lora_weights()\n    pipe.scheduler ="
        )
        assert list(wrong(taken_off, pipeline_class=kind, lora=True)) == ["lora"] * (not fused)


def test_every_accelerator_says_how_it_is_used() -> None:
    """But fewer steps, which are told by the steps alone."""
    silent = [name for name, accelerator in ACCELERATORS.items() if not accelerator.ways]
    assert silent == ["fewer_steps"]


# How people write

IMPORTS = """
import torch
import tomesd
from diffusers import DDIMScheduler, StableDiffusionPipeline
from DeepCache import DeepCacheSDHelper
from tgate import TgateSDLoader
"""
LOAD = """
def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("models/one")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    {on}
    return pipe
"""
GENERATE = """
def generate(pipe, prompts, seeds):
    return pipe(prompts, num_inference_steps=20).images
"""
HELPER = "helper = DeepCacheSDHelper(pipe=pipe); helper.set_params(cache_interval=3); "
DEEPCACHE, TOME, TGATE = frozenset({"deepcache"}), frozenset({"tome"}), frozenset({"tgate"})


def script(
    on: str = "pass", generate: str = GENERATE, load: str = LOAD, imports: str = IMPORTS
) -> str:
    return imports + load.replace("{on}", on) + generate


GOOD = {
    "plainly": script(),
    "a scheduler when loading": script(
        load="""
def load_pipeline():
    where = dict(pretrained_model_name_or_path="models/one/")
    sampler = DDIMScheduler.from_pretrained("models/one", subfolder="scheduler")
    return StableDiffusionPipeline.from_pretrained(**where, scheduler=sampler).to("cuda").to("cpu")
"""
    ),
    "by modules": script(
        imports="import diffusers as d\nfrom os import path as p",
        load="""
def load_pipeline():
    pipe = d.DiffusionPipeline.from_pretrained("models" + "/" + f"{'one'}", torch_dtype=None)
    setattr(pipe, "scheduler", d.schedulers.DDIMScheduler.from_config(pipe.scheduler.config))
    return pipe
""",
    ),
    "steps by place": script(
        generate="def generate(pipe, prompts, seeds): return pipe(prompts, 512, 512, 20).images"
    ),
    "steps by a constant": script(
        generate="""
class Candidates:
    steps = 10

STEPS = 2 * Candidates.steps

def draw(pipe, prompt, steps=STEPS, **more):
    return pipe(prompt, num_inference_steps=steps, **more).images[0]

def generate(pipe, prompts, seeds):
    return [draw(pipe, each, guidance_scale=7.5) for each in prompts]
"""
    ),
    "arguments in a dict": script(
        generate="""
def generate(pipe, prompts, seeds):
    call = {"guidance_scale": 7.5}
    call["num_inference_steps"] = 20
    call.update(height=512)
    with torch.inference_mode():
        return pipe(prompts, **call).images
"""
    ),
    "a class of one's own": script(
        load="""
class Painter:
    kind = StableDiffusionPipeline

    def __init__(self, source):
        self.pipe = self.kind.from_pretrained(source)
        self.pipe.scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config)

    @property
    def steps(self):
        return 20

    def __call__(self, prompt):
        return self.pipe(prompt, num_inference_steps=self.steps).images[0]

def load_pipeline():
    return Painter("models/one")
""",
        generate="def generate(paint, prompts, seeds):\n"
        "    return list(map(lambda p: paint(p), prompts))\n",
    ),
    "a call's arguments that change": script(
        generate="""
def generate(pipe, prompts, seeds):
    call, images, number = {"num_inference_steps": 20, "generator": None}, [], 0
    while number < len(prompts):
        call["generator"] = torch.Generator(device=pipe.device).manual_seed(seeds[number])
        call["prompt"] = prompts[number]
        images += pipe(**call).images
        number += 1
    return images
"""
    ),
    "decorated": script(
        imports="import functools, time, logging, warnings" + IMPORTS,
        load="""
log = logging.getLogger("x")
warnings.filterwarnings("ignore")

def timed(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        start = time.perf_counter()
        found = function(*args, **kwargs)
        log.info("%s took %.1f s", function.__name__, time.perf_counter() - start)
        return found
    return call

@functools.lru_cache(maxsize=None)
def load_pipeline():
    pipe = StableDiffusionPipeline.from_pretrained("models/one", torch_dtype=torch.float16)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.safety_checker = lambda images, **more: (images, [False] * len(images))
    pipe.enable_model_cpu_offload()
    try:
        pipe.enable_xformers_memory_efficient_attention()
    except Exception as error:
        log.warning(f"no xformers: {error}")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch._inductor.config.conv_1x1_as_mm = True
    return pipe
""",
        generate="""
@timed
@torch.inference_mode()
def generate(pipe, prompts, seeds):
    return pipe(prompts, num_inference_steps=20).images
""",
    ),
    "embeddings made before": script(
        generate="""
def generate(pipe, prompts, seeds):
    wanted, other = pipe.encode_prompt(prompts, pipe.device, 1, True)
    wanted = torch.cat([wanted, wanted]).to(pipe.unet.dtype).chunk(2)[0]
    with torch.autocast(pipe.device.type, enabled=False):
        out = pipe(prompt_embeds=wanted, negative_prompt_embeds=other, num_inference_steps=20)
    return [each.convert("RGB") for each in out.images]
"""
    ),
    "one by one, with a way out": script(
        generate="""
def generate(pipe, prompts, seeds):
    images = []
    for prompt, seed in zip(prompts, seeds):
        try:
            images.extend(pipe(prompt=prompt, num_inference_steps=20).images)
        except RuntimeError as error:
            raise SystemExit(str(error))
    return images
"""
    ),
}
"""Baseline pipelines of DDIM with 20 steps."""


@pytest.mark.parametrize("name", GOOD)
def test_ways_of_writing_the_same(name: str) -> None:
    assert wrong(GOOD[name]) == {}


COMPILE = frozenset({"compile"})
USED = {
    "compiled as a whole": (
        COMPILE,
        script("pipe.unet = torch.compile(pipe.unet, mode='reduce-overhead', fullgraph=True)"),
    ),
    "compiled in parts": (
        COMPILE,
        script(
            "pipe.unet.compile(); pipe.vae.decode = torch.compile(pipe.vae.decode)\n"
            "    for block in pipe.unet.up_blocks: block.forward = torch.compile(block.forward)"
        ),
    ),
    "helper": (DEEPCACHE, script(HELPER + "helper.enable()")),
    "helper, kept": (
        DEEPCACHE,
        script(
            "pass",
            generate="""
def generate(pipe, prompts, seeds):
    cache = DeepCacheSDHelper(pipe)
    try:
        cache.set_params(cache_interval=3, cache_branch_id=0)
        cache.enable()
        return pipe(prompts, num_inference_steps=20).images
    finally:
        cache.disable()
""",
        ),
    ),
    "where there is a GPU": (
        TOME,
        script("if torch.cuda.is_available(): tomesd.apply_patch(pipe)"),
    ),
    "of a part": (TOME, script("tomesd.apply_patch(pipe.unet, ratio=0.5)")),
    "from another function": (
        TOME,
        script("accelerate(pipe)")
        + "def accelerate(it):\n    from tomesd import apply_patch as on\n    on(it)\n",
    ),
    "gate": (
        TGATE,
        script(
            "pipe = TgateSDLoader(pipe, gate_step=10).to('cuda')",
            generate=GENERATE.replace("pipe(", "pipe.tgate("),
        ),
    ),
    "both handed on": (
        DEEPCACHE,
        script(
            HELPER + "return pipe, helper",
            generate="""
def generate(both, prompts, seeds):
    pipe, helper = both
    helper.enable()
    return pipe(prompts, num_inference_steps=20).images
""",
        ),
    ),
}


@pytest.mark.parametrize("name", USED)
def test_ways_of_using_an_accelerator(name: str) -> None:
    accelerators, source = USED[name]
    assert wrong(source, accelerators=accelerators) == {}
    assert list(wrong(source)) == ["accelerators"], "not asked for"


NOT_USED = {
    "never enabled": (DEEPCACHE, script(HELPER)),
    "enabled and disabled": (DEEPCACHE, script(HELPER + "helper.enable(); helper.disable()")),
    "if False": (TOME, script("if False: tomesd.apply_patch(pipe)")),
    "a constant that is false": (
        TOME,
        "FAST = 0\n" + script("if FAST and len(FAST) > 1: tomesd.apply_patch(pipe)"),
    ),
    "behind a return": (TOME, script("return pipe; tomesd.apply_patch(pipe)")),
    "behind an error": (TOME, script("raise ValueError; tomesd.apply_patch(pipe)") + LOAD),
    "in nobody's function": (TOME, script() + "def on(pipe): tomesd.apply_patch(pipe)"),
    "in a comment": (TOME, script("pass  # tomesd.apply_patch(pipe)")),
    "in a text": (TOME, script("'tomesd.apply_patch(pipe)'")),
    "of the name alone": (TOME, script("tomesd.apply_patch")),
    "of another module": (TOME, script("tomesd.apply_patch(pipe)", imports=IMPORTS.replace(
        "import tomesd", "import notme as tomesd"))),
    "for the main program": (
        TOME, script() + "if __name__ == '__main__': tomesd.apply_patch(load_pipeline())"),
    "afterwards": (
        TOME,
        script(
            generate="""
def generate(pipe, prompts, seeds):
    images = pipe(prompts, num_inference_steps=20).images
    tomesd.apply_patch(pipe)
    return images
"""
        ),
    ),
    "on another pipeline": (
        TOME,
        script("tomesd.apply_patch(StableDiffusionPipeline.from_pretrained('models/one'))"),
    ),
    "a context that is not entered": (
        TOME,
        script("on(pipe)") + "from contextlib import contextmanager\n@contextmanager\n"
        "def on(pipe):\n    tomesd.apply_patch(pipe)\n    yield\n",
    ),
    "a context that is left": (
        TOME,
        script(
            generate="""
from contextlib import contextmanager

@contextmanager
def on(pipe):
    tomesd.apply_patch(pipe)
    yield
    tomesd.remove_patch(pipe)

def generate(pipe, prompts, seeds):
    with on(pipe):
        pass
    return pipe(prompts, num_inference_steps=20).images
"""
        ),
    ),
    "a context that is left by returning": (
        TOME,
        script("with on(pipe): return pipe") + "from contextlib import contextmanager\n"
        "@contextmanager\ndef on(pipe):\n    tomesd.apply_patch(pipe)\n    try:\n        yield\n"
        "    finally:\n        tomesd.remove_patch(pipe)\n",
    ),
    "taken off on the way out": (
        TOME,
        script(
            load=LOAD.replace("    {on}\n    return pipe", """    try:
        tomesd.apply_patch(pipe)
        return pipe
    finally:
        tomesd.remove_patch(pipe)
""")
        ),
    ),
    "a gate that is not gone through": (TGATE, script("TgateSDLoader(pipe)")),
    "a loop over nothing": (TOME, script("for _ in []: tomesd.apply_patch(pipe)")),
    "a gate on nothing": (TGATE, script(generate=GENERATE.replace("pipe(", "pipe.tgate("))),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_USED)
def test_what_only_looks_like_using_an_accelerator(name: str) -> None:
    accelerators, source = NOT_USED[name]
    found = wrong(source, accelerators=accelerators)
    assert next(iter(found)) in ("accelerators", "interface"), found


BAD = {
    "source": ["def f(:", "\0", "x = " + "(" * 500, "-" * 100_000 + "1", "a" + ".b" * 100_000],
    "interface": [
        "",
        "def load_pipeline(): pass",
        script(generate="def generate(pipe, prompts, seeds): return []"),
        script(generate="def generate(pipe, prompts, seeds): raise ValueError"),
        "import sys\nsys.exit()\n" + script(),
        script("raise ValueError"),
        script(generate="if False:\n    def generate(pipe, prompts, seeds): return pipe(prompts)"),
    ],
    "pipeline": [script().replace("StableDiffusionPipeline", "StableDiffusionXLPipeline")],
    "model": [
        script().replace("models/one", "models/two"),
        script().replace('"models/one"', "input()"),
        script("if torch.rand(1) > 0.5: pipe = StableDiffusionPipeline.from_pretrained('b', "
               "scheduler=pipe.scheduler)"),
    ],
    "scheduler": [
        script(load=LOAD.replace("pipe.scheduler = ", "other = ")),
        script("pipe.scheduler = make()"),
        script("if torch.rand(1) > 0.5: pipe.scheduler = diffusers.PNDMScheduler()",
               imports="import diffusers" + IMPORTS),
        script().replace("DDIMScheduler", "DDIMInverseScheduler"),
    ],
    "guidance": [
        script(generate=GENERATE.replace("=20", "=20, guidance_scale=0")),
        script(generate=GENERATE.replace("=20", "=20, guidance_scale=len(prompts)")),
        script(
            generate=GENERATE.replace("num_inference_steps=20", "512, 512, 20, None, None, 1.0")
        ),
    ],
    "steps": [
        script(generate=GENERATE.replace("20", "19")),
        script(generate=GENERATE.replace("20", "len(prompts)")),
        script(generate=GENERATE.replace(", num_inference_steps=20", "")),
        script(generate=GENERATE.replace("=20", "=20, timesteps=[999, 500]")),
        script(generate=GENERATE.replace("num_inference_steps=20", "**options")),
        script(generate="""
def generate(pipe, prompts, seeds):
    steps = 20
    if len(prompts) > 3:
        steps = 5
    return pipe(prompts, num_inference_steps=steps).images
"""),
        script(generate=GENERATE + "    return pipe(prompts, num_inference_steps=5)").replace(
            "    return pipe(prompts, num_inference_steps=20)",
            "    if seeds: return pipe(prompts, num_inference_steps=20)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("check", "source"), [(k, each) for k, v in BAD.items() for each in v])
def test_what_is_wrong_is_found_where_it_is(check: str, source: str) -> None:
    assert next(iter(wrong(source))) == check


def test_what_is_shown_is_short() -> None:
    found = wrong(script(generate=GENERATE.replace("20", "0x" + "f" * 20_000)))
    assert "very many digits" in found["steps"]
    found = wrong(script().replace("models/one", "m" * 9_000))
    assert len(found["model"]) < 200


def test_the_candidates_of_a_class_may_change() -> None:
    candidates = "class S:\n    steps = 20\nS.steps = 5\n"
    source = script(generate=candidates + GENERATE.replace("20", "S.steps"))
    assert list(wrong(source)) == ["steps"]


def test_what_may_be_set_by_an_unknown_name_is_unknown() -> None:
    source = script("setattr(pipe, input(), torch)")
    assert list(wrong(source)) == ["scheduler", "known"]
    assert wrong(script("setattr(pipe, 'safety_' + 'checker', None)")) == {}


def test_the_models_own_scheduler_may_be_the_right_one() -> None:
    source = script(load=LOAD.replace("pipe.scheduler = ", "other = "))
    assert wrong(source, own_scheduler="DDIMScheduler") == {}


# Hostile sources

BOMBS = {
    "calls": "\n".join(f"def f{i}(x):\n    f{i + 1}(x)\n    f{i + 1}(x)" for i in range(60)),
    "branches": "\n".join(f"if x{i}: a{i} = 1\nelse: a{i} = 2" for i in range(9000)),
    "values": "x = [1]\n" + "x = x + x\n" * 100 + "y = 'a'\n" + "y = y + y\n" * 100,
    "numbers": "x = 10\n" + "x = x * x\n" * 100 + "y = 10 ** 10 ** 10\nz = 'a' * 10**12",
    "nesting": "x = " + "[" * 90 + "]" * 90 + "\n" + "f(" * 90 + ")" * 90,
    "chain": "x = a" + ".b" * 800 + "\n" + "y = " + "1 + " * 800 + "1",
    "recursion": "def f(x):\n    return f(f(x))",
    "length": "#" * 10**6,
    "lists of lists": "\n".join(
        [
            "x, y = [1], [1]",
            *["x = [x, x]", "y = [y, y]"] * 60,
            "z = x if input() else y",
            "f(x, y)",
        ]
    ),
    "digits": f"x = 0x{'f' * 20_000}\ny = f'{{x}}'\nz = int(x)\nw = {{x: x}}",
    "paths": "import torch as x\n" + "x = x.a\n" * 20_000,
    "decorators": f"class A:\n    @{'.'.join('a' * 800)}\n    def f(self): pass\n"
    + "A().f()\n" * 5_000,
    "no pipeline": "import pipe\npipe.draw()\npipe.unet.forward = 1\ngetattr(pipe, 'a')()\n"
    "def g(): return pipes.x()\n",
    "endless": "def e():\n    while True:\n        yield 1\nfor _ in e(): pass\n",
    "odd targets": "x[0], *y.z, w[1:2] = [*range(9)]\n(a := 1)\ndel x[0], y\nassert x, y\n"
    "lambda *a, b=1, **c: 0\nx = {**y, 'a': 1, **{'b': 2}}\nf(*x, **x)\n'%s' % x\n-'a'\n1 < 'a'\n"
    "match x:\n    case [1, *_]: pass\n    case {'a': b, **c}: pass\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_reading_is_bounded(name: str) -> None:
    source = BOMBS[name] + "\n" + script("f0(1)" if name == "calls" else "f(1)") + "def f(x): pass"
    start = time.process_time()
    found = examine(source.encode(), WANTED)
    assert set(found) <= set(LOOKED_AT)
    assert time.process_time() - start < 20


@given(st.randoms(use_true_random=False), st.sampled_from(sorted({**GOOD, **BOMBS})))
def test_garbled_scripts_are_read_or_refused(chance: random.Random, name: str) -> None:
    """Lines of scripts left out, repeated and mixed: many are still Python."""
    lines = {**GOOD, **BOMBS}[name].splitlines()[:80]
    for _ in range(chance.randrange(6)):
        place = chance.randrange(len(lines))
        change = chance.choice(("drop", "repeat", "swap", "dedent"))
        if change == "drop" and len(lines) > 1:
            del lines[place]
        elif change == "repeat":
            lines.insert(place, lines[place])
        elif change == "swap":
            lines[place], lines[-1] = lines[-1], lines[place]
        else:
            lines[place] = lines[place].strip()
    found = examine("\n".join(lines).encode(), WANTED)
    assert set(found) <= set(LOOKED_AT)
