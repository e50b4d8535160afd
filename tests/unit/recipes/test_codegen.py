"""Generated scripts: byte for byte, clean under ruff and mypy, run for real, and never injected."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import itertools
import json
import math
import os
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from PIL import Image

from diffaccel.plugins.accelerators import (
    ACCELERATORS,
    Emitted,
    PipelineSpec,
    UnsupportedError,
    combination,
)
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.sources import is_local
from diffaccel.plugins.space import Parameters, nest
from diffaccel.recipes.codegen import (
    LINE,
    Measured,
    Script,
    assign,
    docstring,
    formatted,
    imported,
    literal,
    render,
    templates,
)
from tests.turns import in_turns

REGENERATE = Path(__file__).parents[2] / "golden/regenerate.py"
PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
GOLDEN = SimpleNamespace(**runpy.run_path(str(REGENERATE)))
COMBINATIONS = [
    names
    for size in range(1, len(ACCELERATORS) + 1)
    for names in itertools.combinations(ACCELERATORS, size)
]
PIPELINES = {
    "sd": PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8)),
    "sdxl": PipelineSpec("StableDiffusionXLPipeline", 20, (3, 3, 2), (2, 4), latent_size=128),
}
PLAIN = Script("plain", "models/a", "StableDiffusionPipeline", "DDIMScheduler", 20, 7.5, 64, 64)


# Golden files


@pytest.mark.parametrize("path", GOLDEN.golden(), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GOLDEN.golden()[path], (
        f"{path.name} differs; if that is meant: python tests/golden/regenerate.py; read the diff"
    )


def test_no_stray_golden_files() -> None:
    assert {*REGENERATE.parent.glob("*.py")} == {*GOLDEN.golden(), REGENERATE}


# Clean under the tools that users have


def random_candidates(
    names: tuple[str, ...], pipeline: PipelineSpec, count: int
) -> list[Parameters]:
    """Allowed candidates from all over the space."""
    generator = random.Random("+".join(names))
    space = combination(names).space(pipeline)
    generated = (
        {axis.name: generator.choice(axis.values) for axis in space.axes} for _ in itertools.count()
    )
    allowed = (point for point in generated if space.forbids(point) is None)
    return [nest(point) for point in itertools.islice(allowed, count)]


def scripts() -> dict[str, Script]:
    """Every combination on both layouts, and values that are hard to lay out."""
    made = {
        f"{family}_{'_'.join(names)}_{number}": dataclasses.replace(
            GOLDEN.script(family, {}, "DDIMScheduler"),
            title=combination(names).title,
            parameters=parameters,
            parts=combination(names).emit(parameters, PIPELINES[family]),
            measured=GOLDEN.EXAMPLE,
        )
        for family, names in itertools.product(PIPELINES, COMBINATIONS)
        if combination(names).supports(PIPELINES[family])[0]
        for number, parameters in enumerate(random_candidates(names, PIPELINES[family], 4))
    }
    assert {name.split("_")[0] for name in made} == set(PIPELINES)
    for dtype in ("float16", "float32", "bfloat16"):
        made[f"plain_{dtype}"] = dataclasses.replace(PLAIN, dtype=dtype)
    for number, model in enumerate(
        [
            "a" * 300,
            "long words " * 30,
            "it's",
            'say "it"',
            'it\'s "both"',
            "\\n\\",
            "\0\x1f\x7f" * 40,
        ]
    ):
        made[f"model_{number}"] = dataclasses.replace(
            PLAIN, model=model, description=model, variant=model[:9], vae=model
        )
        made[f"single_file_{number}"] = dataclasses.replace(PLAIN, model=model, config=model)
    for family, names in itertools.product(PIPELINES, (("tgate",), ("deepcache",))):
        for number, own in enumerate(GOLDEN.ADDITIONS.values()):
            plain = made[f"{family}_{names[0]}_0"]
            made[f"{family}_{names[0]}_more_{number}"] = dataclasses.replace(plain, **own)
    commit = "0123456789abcdef0123456789abcdef01234567"
    made["pinned"] = dataclasses.replace(PLAIN, model=f"a/b@{commit}", vae=f"c/d@{commit}")
    made["pinned_file"] = dataclasses.replace(PLAIN, model="a.safetensors", config=f"a/b@{commit}")
    return made


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for name, script in scripts().items():
        (folder / f"{name}.py").write_text(render(script), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "tool",
    [
        ["ruff", "format", "--diff", "--config", str(PYPROJECT)],
        ["ruff", "check", "--config", str(PYPROJECT)],
        pytest.param(["mypy", "--strict", "--config-file", str(PYPROJECT)], marks=pytest.mark.long),
    ],
    ids=["format", "lint", "types"],
)
def test_clean(rendered: Path, tool: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *tool, *map(str, rendered.glob("*.py"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_nothing_but_what_a_user_has(rendered: Path) -> None:
    packages = {*sys.stdlib_module_names, "torch", "diffusers", "PIL"}
    packages |= {"safetensors", "huggingface_hub"}  # which diffusers needs itself
    packages |= {accelerator.package for accelerator in ACCELERATORS.values()}
    for path in rendered.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= packages
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in packages


def test_a_plain_script_has_no_context_manager() -> None:
    assert "contextmanager" not in render(PLAIN)
    assert "Iterator" not in render(PLAIN)


# Run for real, on tiny pipelines with random weights


def load(source: str, path: Path) -> ModuleType:
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Folders of tiny pipelines; on one thread, which is faster for such sizes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    yield {family: tiny.save(family, folder / family) for family in ("SD1.5", "SDXL")}
    torch.set_num_threads(threads)


def tiny_script(family: str, folder: Path, parameters: Parameters) -> Script:
    """A script for the tiny pipeline in this folder."""
    config = json.loads((folder / "unet/config.json").read_text(encoding="utf-8"))
    pipeline_class = type(tiny.FAMILIES[family](0)).__name__
    pipeline = PipelineSpec.of_config(pipeline_class, config, steps=6, guidance_scale=7.5)
    side = 2 * tiny.LATENT_SIZE
    return Script(
        description="a test",
        model=str(folder),
        pipeline_class=pipeline_class,
        scheduler_class="DDIMScheduler",
        steps=6,
        guidance_scale=7.5,
        height=side,
        width=side,
        parameters=parameters,
        parts=combination(list(parameters)).emit(parameters, pipeline) if parameters else (),
    )


def pixels(images: list[Any]) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.mark.parametrize(
    ("family", "accelerators"),
    [
        pytest.param(
            *case.values,
            marks=[pytest.mark.long] if "compile" in case.id else case.marks,
            id=case.id,
        )
        for case in in_turns(
            ["SD1.5", "SDXL"], [name for name in GOLDEN.CANDIDATES if name != "plain"]
        )
    ],
)
def test_runs_again_and_again_and_leaves_no_trace(
    family: str,
    accelerators: str,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = {name: dict(part) for name, part in GOLDEN.CANDIDATES[accelerators].items()}
    if "graphs" in parameters and not torch.cuda.is_available():
        pytest.skip("CUDA graphs need a CUDA device")
    # Traced for real; generating C++ from the trace takes minutes, and is torch's own business.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    if "tgate" in parameters:
        parameters["tgate"]["gate_step"] = 3
    script = tiny_script(family, models[family], parameters)
    plain = load(
        render(dataclasses.replace(script, parts=(), parameters={})), tmp_path / "plain.py"
    )
    fast = load(render(script), tmp_path / "fast.py")
    prompts, seeds = ["a red square", "a blue ring", "a dot"], [1, 2, 3]

    pipe = fast.load_pipeline(device="cpu")
    before = pixels(plain.generate(pipe, prompts, seeds))
    first = pixels(fast.generate(pipe, prompts, seeds))
    assert len(first) == len(prompts)
    lossless = set(parameters) <= {"compile", "graphs", "transfers"}
    assert (first != before) is not lossless, "what changes the images, and what does not"
    alone = pixels(fast.generate(pipe, prompts[:1], seeds[:1]))
    assert len(alone) == 1
    assert pixels(fast.generate(pipe, prompts, seeds)) == first
    assert pixels(fast.generate(pipe, prompts[:1], seeds[:1])) == alone
    assert pixels(plain.generate(pipe, prompts, seeds)) == before


def test_the_pipeline_is_left_as_it_was_after_an_error(
    models: dict[str, Path], tmp_path: Path
) -> None:
    parameters = {"deepcache": GOLDEN.DEEPCACHE, "tgate": GOLDEN.TGATE | {"gate_step": 3}}
    script = tiny_script("SD1.5", models["SD1.5"], parameters)
    fast = load(render(script), tmp_path / "fast.py")
    plain = load(
        render(dataclasses.replace(script, parts=(), parameters={})), tmp_path / "plain.py"
    )
    pipe = fast.load_pipeline(device="cpu")
    before = pixels(plain.generate(pipe, ["a dot"], [0]))
    with pytest.raises(ValueError, match="generator"):
        fast.generate(pipe, ["one", "two"], [0, 1, 2])
    assert pixels(plain.generate(pipe, ["a dot"], [0])) == before


def test_the_command_line(models: dict[str, Path], tmp_path: Path) -> None:
    """Prompts one after the other, from any folder: a model of the project is looked for in those
    that the script lies in."""
    script = tiny_script("SD1.5", models["SD1.5"], {"deepcache": GOLDEN.DEEPCACHE})
    (tmp_path / "models" / "of" / "mine").parent.mkdir(parents=True)
    (tmp_path / "models" / "of" / "mine").symlink_to(models["SD1.5"])
    (tmp_path / "code").mkdir()
    path = tmp_path / "code" / "script.py"
    source = render(dataclasses.replace(script, model="models/of/mine"))
    module = load(source, path)
    words = ["--prompt", "a", "--prompt", "b", "--seed", "5", "--out", str(tmp_path / "it.png")]
    done = run_script(path, *words)
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / "it.png", tmp_path / "it-1.png"]
    assert done.stdout.splitlines() == [f"wrote {path}" for path in paths]
    assert "deprecat" not in done.stderr.lower()
    pipe = module.load_pipeline(str(models["SD1.5"]), "cpu")
    expected = pixels(module.generate(pipe, ["a", "b"], [5, 6]))
    assert pixels([Image.open(path) for path in paths]) == expected


@pytest.mark.long
def test_a_negative_prompt_on_the_command_line(models: dict[str, Path], tmp_path: Path) -> None:
    """Without one it is the model's."""
    script = tiny_script("SD1.5", models["SD1.5"], {"deepcache": GOLDEN.DEEPCACHE})
    module = load(render(dataclasses.replace(script, negative_prompt="dots")), tmp_path / "it.py")
    out = tmp_path / "it.png"
    words = ("--prompt", "a", "--negative-prompt", "squares", "--out", str(out))
    done = run_script(tmp_path / "it.py", *words)
    assert done.returncode == 0, done.stderr
    pipe = module.load_pipeline(device="cpu")
    own, others = (pixels(module.generate(pipe, ["a"], [0], [n])) for n in ("dots", "squares"))
    assert pixels([Image.open(out)]) == others != own
    assert pixels(module.generate(pipe, ["a"], [0])) == own


def run_script(path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script as a user runs it, from a folder that has nothing to do with it."""
    return subprocess.run(
        [sys.executable, str(path), *words, "--device", "cpu"],
        cwd="/",
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.long
def test_a_script_that_was_taken_away_is_told_where_the_model_is(
    models: dict[str, Path], tmp_path: Path
) -> None:
    script = dataclasses.replace(tiny_script("SD1.5", models["SD1.5"], {}), model="models/of/mine")
    path = tmp_path / "script.py"
    path.write_text(render(script), encoding="utf-8")
    words = ["--prompt", "a", "--out", str(tmp_path / "it.png")]
    done = run_script(path, *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "no models/of/mine here: say where it is with --model or DIFFACCEL_MODEL"
    )
    done = run_script(path, *words, DIFFACCEL_MODEL=str(models["SD1.5"]))
    assert done.stdout == f"wrote {tmp_path / 'it.png'}\n", done.stderr


def test_a_vae_of_the_project_is_found_from_any_folder(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of" / "mine").mkdir(parents=True)
    (tmp_path / "of" / "mine" / "vae").symlink_to(models["SD1.5"] / "vae")
    script = dataclasses.replace(tiny_script("SD1.5", models["SD1.5"], {}), vae="of/mine/vae")
    (tmp_path / "code").mkdir()
    module = load(render(script), tmp_path / "code" / "script.py")
    monkeypatch.chdir("/")
    assert module.load_pipeline(device="cpu").vae is not None


def test_a_model_of_the_project_has_its_variant_from_any_folder(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "of" / "mine"
    shutil.copytree(models["SD1.5"], folder)
    for weights in folder.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    script = tiny_script("SD1.5", models["SD1.5"], {})
    source = render(dataclasses.replace(script, model="models/of/mine", variant="fp16"))
    module = load(source, tmp_path / "script.py")
    monkeypatch.chdir("/")
    assert module.load_pipeline(module.find("models/of/mine"), "cpu").unet is not None


@pytest.mark.parametrize(
    ("dtype", "loaded"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")]
)
def test_the_dtype_on_a_cpu(
    dtype: str, loaded: str, models: dict[str, Path], tmp_path: Path
) -> None:
    script = dataclasses.replace(tiny_script("SD1.5", models["SD1.5"], {}), dtype=dtype)
    pipe = load(render(script), tmp_path / "script.py").load_pipeline(device="cpu")
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert {str(part.dtype) for part in parts} == {f"torch.{loaded}"}
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"


# Hostile input

FRAGMENTS = [
    '"""', "'''", '"', "'", "\\", '\\"', "{{ 7*7 }}", "{% raw %}", "{#", "\n", "\r", "\0", "\x0c",
    "\u2028", "\ud800", "\U0001f600", "\nimport os\n", '"; import os; "', "../../etc/passwd", "#",
    " ", "\t", "%s", "{0}", "__import__('os')", "\\N{DIGIT ONE}", "\\x41",
]  # fmt: skip
hostile = st.lists(st.sampled_from(FRAGMENTS) | st.text(), max_size=12).map("".join)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(hostile | numbers | st.booleans() | st.none())
def test_a_literal_is_that_value(value: Any) -> None:
    source = literal(value)
    assert "\n" not in source
    read = ast.literal_eval(source)
    assert read == value
    assert type(read) is type(value)
    assert math.copysign(1, value) == math.copysign(1, read) if isinstance(value, float) else True


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_without_a_literal(value: float) -> None:
    with pytest.raises(ValueError, match=str(value)):
        literal(value)


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, b"a", Path("a"), 1j, type("Text", (str,), {})("a")]
)
def test_nothing_else_becomes_a_literal(value: Any) -> None:
    with pytest.raises(TypeError, match="no literal"):
        literal(value)


@given(hostile, st.integers(0, 30))
def test_a_constant_is_that_value(text: str, times: int) -> None:
    source = assign("NAME", text * times)
    (statement,) = ast.parse(source).body
    assert isinstance(statement, ast.Assign)
    assert ast.literal_eval(statement.value) == text * times
    assert max(map(len, source.splitlines())) <= LINE


@given(st.lists(hostile, min_size=1, max_size=4))
def test_a_docstring_is_that_text(paragraphs: list[str]) -> None:
    (statement,) = ast.parse(docstring(["Title", *paragraphs])).body
    assert isinstance(statement, ast.Expr)
    text = ast.literal_eval(statement.value)
    assert text.split() == ["Title", *" ".join(paragraphs).split()]


def shape(source: str) -> tuple[str, dict[str, Any]]:
    """The script's syntax tree without docstring and constants' values, and those values."""
    tree = ast.parse(source)
    del tree.body[0]
    constants = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = ast.literal_eval(node.value)
            node.value = ast.Constant(None)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "variant":
            assert isinstance(node.value, ast.IfExp)
            constants["variant"] = ast.literal_eval(node.value.body)
            node.value = ast.Constant(None)
    return ast.dump(tree), constants


OTHER = {False: "variant", True: "config"}
"""What a folder's pipeline has, and a single file's."""
EXPECTED = {
    single: shape(
        render(
            dataclasses.replace(
                PLAIN, model="x", vae="x", measured=GOLDEN.EXAMPLE, **{OTHER[single]: "x"}
            )
        )
    )
    for single in OTHER
}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(model=hostile, text=hostile, other=hostile, vae=hostile, single=st.booleans())
def test_hostile_text_never_becomes_code(
    model: str, text: str, other: str, vae: str, single: bool
) -> None:
    # An id may have a revision, and a whole path is looked for nowhere else.
    assume(all(is_local(s) and not Path(s).is_absolute() for s in (model, vae, other)))
    script = dataclasses.replace(
        PLAIN,
        description=text,
        model=model,
        title=text,
        parameters={text: {text: text}},  # type: ignore[dict-item]
        vae=vae,
        measured=Measured(2.0, 0.0, (0.0, 0.0), 1, text, {text: text}, text),
        **{OTHER[single]: other},
    )
    source = render(script)
    source.encode("utf-8")
    tree, constants = shape(source)
    assert tree == EXPECTED[single][0]
    given = {"MODEL": model, "VAE": vae, "CONFIG" if single else "variant": other}
    assert constants == EXPECTED[single][1] | given


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
@given(hostile, hostile, hostile)
def test_hostile_additions_never_become_code(place: str, name: str, text: str) -> None:
    assume(is_local(place) and not Path(place, name).is_absolute())

    def made(place: str, name: str, text: str) -> str:
        return render(
            dataclasses.replace(
                PLAIN,
                pipeline_class="StableDiffusionXLPipeline",
                lora=(Lora(place, 1.0, f"{name}.safetensors"),),
                textual_inversion=(TextualInversion(place, text, f"{name}.safetensors"),),
                negative_prompt=text,
            )
        )

    def shaped(source: str) -> str:
        tree = ast.parse(source)
        del tree.body[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
        return ast.dump(tree)

    assert shaped(made(place, name, text)) == shaped(made("x", "x", "x"))


def called(source: str) -> list[str]:
    """What is called anywhere in a script."""
    nodes = ast.walk(ast.parse(source))
    return [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("text", ["1); evil(", "evil()", "\n    evil()", "'+evil()+'"])
def test_a_hostile_parameters_never_becomes_code(name: str, text: str) -> None:
    joined, part = combination([name]), GOLDEN.CANDIDATES[name][name]
    harmless = called(
        render(dataclasses.replace(PLAIN, parts=joined.emit({name: part}, PIPELINES["sd"])))
    )
    changed = [{**part, field: text} for field in part] + [{**part, text: 1}]
    for parameters in changed:
        try:
            parts = joined.emit({name: parameters}, PIPELINES["sd"])
        except UnsupportedError:
            continue
        assert called(render(dataclasses.replace(PLAIN, parts=parts))) == harmless


@pytest.mark.parametrize("name", ["", "a b", "A;import os", "A\n", "class", "os.system", "\uff21"])
@pytest.mark.parametrize("field", ["pipeline_class", "scheduler_class"])
def test_a_class_is_a_name(field: str, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a class"):
        dataclasses.replace(PLAIN, **{field: name})


def test_an_argument_is_a_name() -> None:
    with pytest.raises(ValueError, match="not the name"):
        dataclasses.replace(PLAIN, load_arguments={"a=1, b": 2})


def test_an_unknown_dtype() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'int8'; known: auto, float16"):
        dataclasses.replace(PLAIN, dtype="int8")


def test_parts_that_do_not_fit_into_one_call() -> None:
    one = Emitted((), ("pass",), ("pass",), call="pipe.one", arguments=(("a", "1"),))
    two = Emitted((), ("pass",), ("pass",), call="pipe.two")
    with pytest.raises(ValueError, match=r"only one .* \['pipe.one', 'pipe.two'\]"):
        dataclasses.replace(PLAIN, parts=(one, two))
    with pytest.raises(ValueError, match=r"repeat an argument .* \['a', 'a'\]"):
        dataclasses.replace(PLAIN, parts=(one, one))


# Pieces


def test_what_arguments_use_is_defined_where_nothing_is_put_on() -> None:
    part = Emitted((), (), (), arguments=(("eta", "small()"),), definitions=("def small(): ...",))
    source = render(dataclasses.replace(PLAIN, parts=(part,)))
    assert source.index("def small(): ...") < source.index("eta=small(),")
    assert "contextmanager" not in source


def test_imports_are_merged_and_sorted() -> None:
    statements = [
        "from b import z, A",
        "import torch",
        "import a.c as d",
        "from b import CON",
        "import os",
    ]
    assert formatted("\n".join([*imported(statements), "", "print(os, z, A, torch, d, CON)"])) == (
        "import os\n\nimport a.c as d\nimport torch\nfrom b import CON, A, z\n\n"
        "print(os, z, A, torch, d, CON)\n"
    )


def test_the_current_folder_does_not_change_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = render(PLAIN)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "ruff.toml").write_text("line-length = 40")
    monkeypatch.chdir(tmp_path)
    assert render(PLAIN) == before


@pytest.mark.parametrize("statement", ["from . import a", "print(1)"])
def test_only_imports_are_imports(statement: str) -> None:
    with pytest.raises(ValueError, match="not an absolute import"):
        imported([statement])


def test_what_is_no_python_is_no_script() -> None:
    with pytest.raises(SyntaxError, match="ruff cannot format a script"):
        formatted("def load_pipeline(:")


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        templates().from_string("{{ absent }}").render()
