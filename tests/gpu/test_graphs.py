"""CUDA graphs on a CUDA device: the same images in every bit, however often and with what else."""

from __future__ import annotations

import copy
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from diffaccel.plugins.accelerators import PipelineSpec, UnsupportedError, combination
from diffaccel.plugins.accelerators.graphs import PLUGIN
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes.codegen import Script, render

pytestmark = pytest.mark.gpu

STEPS = 6
PROMPTS = ["a dot", "two dots"]
CACHE = {"cache_interval": 3, "cache_branch_id": 0}
GATE = {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
COMPILED = {"compile": {"channels_last": True}, "deepcache": CACHE}
OTHERS: list[dict[str, dict[str, Any]]] = [
    {},
    {"deepcache": CACHE},
    {"tgate": GATE},
    {"deepcache": CACHE, "tgate": GATE},
]


def generate(call: Any, prompts: list[str] = PROMPTS, **more: Any) -> np.ndarray:
    generators = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
    side = 2 * tiny.LATENT_SIZE
    arguments = {
        "generator": generators,
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "height": side,
        "width": side,
        "output_type": "np",
    }
    images = call(prompts, **(arguments | more)).images
    return np.stack([np.asarray(image) for image in images])


@pytest.fixture(params=list(tiny.FAMILIES))
def pipe(request: pytest.FixtureRequest) -> Any:
    made = tiny.FAMILIES[request.param](0).to("cuda")
    made.set_progress_bar_config(disable=True)
    return made


def images_of(
    pipe: Any, parameters: dict[str, dict[str, Any]], prompts: list[str] = PROMPTS
) -> Any:
    if not parameters:
        return generate(pipe, prompts)
    with combination(tuple(parameters)).applied(pipe, parameters) as call:
        return generate(call, prompts)


@pytest.mark.parametrize("others", OTHERS, ids=lambda parameters: "+".join(parameters) or "alone")
@pytest.mark.parametrize("decoder", [False, True])
def test_replayed_steps_compute_the_same(pipe: Any, others: Any, decoder: bool) -> None:
    plain = images_of(pipe, {})
    wanted, three = images_of(pipe, others), images_of(pipe, others, ["a", "b", "c"])
    parameters = {"graphs": {"decoder": decoder}, **others}
    for _ in range(3):  # recorded, then replayed
        np.testing.assert_array_equal(images_of(pipe, parameters), wanted)
        np.testing.assert_array_equal(images_of(pipe, parameters, ["a", "b", "c"]), three)
    np.testing.assert_array_equal(images_of(pipe, {}), plain)


def test_a_compiled_network_is_recorded(pipe: Any) -> None:
    compiled = {"compile": {"channels_last": True}, "deepcache": CACHE}
    wanted = images_of(pipe, compiled)
    assert np.abs(wanted - images_of(pipe, {"deepcache": CACHE})).max() < 0.02
    parameters = {**compiled, "graphs": {"decoder": True}}
    for _ in range(3):
        np.testing.assert_array_equal(images_of(pipe, parameters), wanted)


@pytest.fixture(params=[{"deepcache": CACHE}, COMPILED], ids=["cached", "compiled"])
def others(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What graphs are put on with."""
    found: dict[str, dict[str, Any]] = request.param
    return found


@pytest.fixture
def lora(pipe: Any, tmp_path: Path) -> Path:
    """A folder with a LoRA of such a pipeline's U-Net."""
    torch.manual_seed(0)
    unet = type(pipe.unet).from_config(pipe.unet.config)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=targets))
    layers = get_peft_model_state_dict(unet)
    type(pipe).save_lora_weights(tmp_path, unet_lora_layers=layers)
    return tmp_path


def reseeded(part: torch.nn.Module) -> torch.nn.Module:
    """The same layers with other weights."""
    other = copy.deepcopy(part)
    for weight in other.parameters():
        weight.data = weight.data.roll(1, 0)
    return other


def test_what_is_recorded_follows_the_weights(pipe: Any, others: Any, lora: Path) -> None:
    """Between two times that a candidate is put on."""

    def swap(part: str) -> Callable[[], None]:
        return lambda: setattr(pipe, part, reseeded(getattr(pipe, part)))

    def overwrite() -> None:
        pipe.unet.load_state_dict(reseeded(pipe.unet).state_dict())

    def away_and_back() -> None:
        pipe.unet.to("cpu").to("cuda")

    changes: list[Callable[[], Any]] = [
        lambda: pipe.load_lora_weights(lora, adapter_name="style"),
        lambda: pipe.set_adapters("style", 0.5),
        pipe.fuse_lora,
        pipe.unfuse_lora,
        pipe.unload_lora_weights,
        overwrite,
        away_and_back,
        swap("unet"),
        swap("vae"),
    ]
    parameters = {"graphs": {"decoder": True}, **others}
    before = images_of(pipe, others)
    for change in changes:
        np.testing.assert_array_equal(images_of(pipe, parameters), before)
        change()
        wanted = images_of(pipe, others)
        if change is not away_and_back:
            assert not np.array_equal(wanted, before), "the change is seen"
        for _ in range(2):  # recorded, then replayed
            np.testing.assert_array_equal(images_of(pipe, parameters), wanted)
        before = wanted


def test_what_is_recorded_follows_the_weights_while_it_is_on(pipe: Any, lora: Path) -> None:
    parameters = {"graphs": {"decoder": True}, "deepcache": CACHE}
    before = images_of(pipe, {"deepcache": CACHE})
    pipe.load_lora_weights(lora)
    wanted = images_of(pipe, {"deepcache": CACHE})
    pipe.unload_lora_weights()
    with combination(tuple(parameters)).applied(pipe, parameters) as call:
        np.testing.assert_array_equal(generate(call), before)
        pipe.load_lora_weights(lora)
        for _ in range(2):
            np.testing.assert_array_equal(generate(call), wanted)
        pipe.unet = reseeded(pipe.unet)
        with pytest.raises(UnsupportedError, match="a part of the pipeline was replaced"):
            generate(call)
    np.testing.assert_array_equal(images_of(pipe, {}), generate(pipe))


def test_a_candidate_is_recorded_once(pipe: Any, others: Any) -> None:
    """However often it is put on, and though compilation copies the weights each time."""
    parameters = {"graphs": {"decoder": True}, **others}

    def graphs() -> list[int]:
        images_of(pipe, parameters)
        (known,) = PLUGIN._recorded[pipe.unet].values()
        return [id(graph) for each in known for graph, *_ in each.graphs.values()]

    first = graphs()
    assert len(first) == STEPS + 1
    assert graphs() == first == graphs()


def written(folder: Path, parameters: dict[str, dict[str, Any]]) -> str:
    """A script with that candidate, of a pipeline that is saved in the folder."""
    made = tiny.FAMILIES["SD1.5"](0)
    made.save_pretrained(folder)
    joined = combination(tuple(parameters))
    pipeline = PipelineSpec.of(made.to("cuda"), steps=STEPS, guidance_scale=5.0)
    assert joined.supports(pipeline) == (True, "")
    return render(
        Script(
            description="a test",
            model=str(folder),
            pipeline_class="StableDiffusionPipeline",
            scheduler_class="DDIMScheduler",
            steps=STEPS,
            guidance_scale=5.0,
            height=2 * tiny.LATENT_SIZE,
            width=2 * tiny.LATENT_SIZE,
            dtype="float32",
            title=joined.title,
            parameters=parameters,
            parts=joined.emit(parameters, pipeline),
        )
    )


def test_a_script_records_once_and_generates_the_same(tmp_path: Path) -> None:
    source = written(tmp_path, {"deepcache": CACHE, "graphs": {"decoder": True}})
    module = types.ModuleType("script")
    exec(compile(source, "script.py", "exec"), vars(module))
    pipe = module.load_pipeline(device="cuda")
    pipe.set_progress_bar_config(disable=True)
    first, second = (module.generate(pipe, PROMPTS, [0, 1]) for _ in range(2))
    wanted = images_of(pipe, {"deepcache": CACHE})
    for one, two, image in zip(first, second, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
        np.testing.assert_array_equal(np.asarray(one), (image * 255).round().astype(np.uint8))


@pytest.mark.parametrize("parameters", [{"deepcache": CACHE}, COMPILED], ids=["cached", "compiled"])
def test_a_script_follows_the_weights(parameters: Any, tmp_path: Path) -> None:
    """Other weights, and another U-Net, in a pipeline that the script has recorded."""
    source = written(tmp_path, {"graphs": {"decoder": True}, **parameters})
    module = types.ModuleType("script")
    exec(compile(source, "script.py", "exec"), vars(module))
    pipe = module.load_pipeline(device="cuda")
    pipe.set_progress_bar_config(disable=True)

    def overwrite() -> None:
        pipe.unet.load_state_dict(reseeded(pipe.unet).state_dict())

    def swap() -> None:
        pipe.unet = reseeded(pipe.unet)

    for change in (lambda: None, overwrite, swap):
        change()
        wanted = (images_of(pipe, parameters) * 255).round()
        for _ in range(2):
            made = module.generate(pipe, PROMPTS, [0, 1])
            for image, like in zip(made, wanted, strict=True):
                assert np.abs(np.asarray(image).astype(int) - like).max() <= 1


WITNESSED = """
import sys
from diffaccel.benchmark.judge.inside import pixels, read
from diffaccel.benchmark.judge.witness import Witness

wanted = {"pipeline": "StableDiffusionPipeline", "scheduler": "DDIMScheduler", "through": [],
          "steps": int(sys.argv[2]), "guided": True, "bits": 32}
witness = Witness(wanted)
script = read("judged", sys.argv[1], known=True)
pipe = script.load_pipeline(device="cuda")
for prompts in (["a dot", "two dots"], ["three dots", "a line"], ["a dot", "two dots"]):
    witness.begin()
    images = script.generate(pipe, prompts, [0, 1])
    print("witness:", witness.problem([pixels(each, [each.height, each.width]) for each in images]))
"""


@pytest.mark.parametrize("steps", [STEPS, STEPS + 1])
def test_the_judge_sees_what_a_recorded_and_compiled_script_does(
    tmp_path: Path, steps: int
) -> None:
    """In a process of its own, as the witness wraps the classes of diffusers."""
    compiled = {"compile": {"channels_last": True}, "deepcache": CACHE, "graphs": {"decoder": True}}
    (tmp_path / "script.py").write_text(written(tmp_path / "model", compiled))
    command = [sys.executable, "-c", WITNESSED, str(tmp_path / "script.py"), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("witness:")]
    wrong = f" a call of the pipeline took {STEPS} steps of DDIMScheduler; asked for are {steps}"
    assert found == 3 * ["witness:" + (" " if steps == STEPS else wrong)]
