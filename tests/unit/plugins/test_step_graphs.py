"""To what recorded graphs are bound. Recording itself needs a GPU: tests/gpu/test_graphs.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from diffaccel.plugins.accelerators import UnsupportedError, combination
from diffaccel.plugins.accelerators._step_graphs import StepGraphs
from diffaccel.plugins.accelerators.graphs import PLUGIN
from diffaccel.plugins.models.mini import tiny

CACHE = {"cache_interval": 2, "cache_branch_id": 0}
GATE = {"gate_step": 2, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a LoRA as people save it."""
    torch.manual_seed(0)
    folder = str(tmp_path_factory.mktemp("lora"))
    unet = tiny.sd15().unet
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


@pytest.fixture
def pipe(lora: str) -> Any:
    """With a LoRA that is not fused."""
    made = tiny.sd15()
    made.load_lora_weights(lora, adapter_name="style")
    return made


def recorded(module: torch.nn.Module) -> StepGraphs:
    """Graphs of a module as it is, in whose place here something else stands."""
    graphs: Any = StepGraphs()
    graphs.bind(module)
    graphs.kept.append(graphs.weights)
    graphs.graphs["first"] = "a graph"
    return graphs  # type: ignore[no-any-return]


def kept(graphs: StepGraphs, module: torch.nn.Module) -> bool:
    graphs.bind(module)
    return bool(graphs.graphs)


def replaced(pipe: Any) -> None:
    pipe.unet = tiny.sd15(seed=1).unet


def loaded(pipe: Any) -> None:
    """In place, as `load_state_dict` does: what is read by graphs has the new numbers."""
    pipe.unet.load_state_dict({name: value + 1 for name, value in pipe.unet.state_dict().items()})


def moved(pipe: Any) -> None:
    """To other memory, with the same numbers."""
    pipe.unet.to(torch.float64)
    pipe.unet.to(torch.float32)


def relaid(pipe: Any) -> None:
    pipe.unet.to(memory_format=torch.channels_last)


def reassigned(pipe: Any) -> None:
    pipe.unet.conv_in.weight.data = pipe.unet.conv_in.weight.data + 1


def reparametrized(pipe: Any) -> None:
    pipe.unet.conv_in.weight = torch.nn.Parameter(pipe.unet.conv_in.weight.detach() * 2)


def sliced(pipe: Any) -> None:
    pipe.unet.set_attention_slice("max")


CHANGES: list[tuple[Callable[[Any], Any], bool]] = [
    (lambda pipe: None, True),
    (loaded, True),
    (moved, True),
    (relaid, True),
    (replaced, False),
    (reassigned, False),
    (reparametrized, False),
    (sliced, False),
    (lambda pipe: pipe.unet.to(torch.float16), False),
    (lambda pipe: pipe.unload_lora_weights(), False),
    (lambda pipe: pipe.set_adapters("style", 0.5), False),
    (lambda pipe: pipe.fuse_lora(), False),
    (lambda pipe: pipe.fuse_lora(safe_fusing=True), False),
    (lambda pipe: pipe.disable_lora(), False),
    (lambda pipe: pipe.enable_freeu(0.9, 0.2, 1.2, 1.4), False),
]


@pytest.mark.parametrize(("change", "same"), CHANGES)
def test_graphs_are_of_the_weights_and_layers_that_they_were_recorded_of(
    change: Callable[[Any], Any], same: bool, pipe: Any
) -> None:
    graphs = recorded(pipe.unet)
    assert kept(graphs, pipe.unet)
    change(pipe)
    assert kept(graphs, pipe.unet) is same
    graphs.graphs["first"] = "recorded again"
    assert kept(graphs, pipe.unet)


def test_a_lora_that_is_loaded_later_is_seen(lora: str) -> None:
    pipe = tiny.sd15()
    graphs = recorded(pipe.unet)
    pipe.load_lora_weights(lora)
    assert not kept(graphs, pipe.unet)


def test_all_that_was_recorded_of_one_module_must_fit() -> None:
    """Calls of another shape are recorded later, maybe from weights in other memory: what changes
    there in place is not seen by the first."""
    module = torch.nn.Linear(2, 2)
    first = module.weight.data
    graphs = recorded(module)
    module.weight.data = first.clone()
    assert kept(graphs, module)
    graphs.kept.append(graphs.weights)
    module.weight.data = first
    first += 1
    assert not kept(graphs, module)


def test_another_decoder_is_seen() -> None:
    pipe = tiny.sd15()
    graphs = recorded(pipe.vae.decoder)
    pipe.vae = copy.deepcopy(pipe.vae)
    assert kept(graphs, pipe.vae.decoder), "of the same numbers"
    other = AutoencoderKL.from_config(pipe.vae.config)
    assert not kept(graphs, other.decoder)


@pytest.mark.parametrize(
    "others",
    [{}, {"deepcache": CACHE}, {"tgate": GATE}, {"deepcache": CACHE, "tgate": GATE}],
    ids=lambda others: "+".join(others) or "alone",
)
@pytest.mark.parametrize("compiled", [False, True])
def test_putting_on_again_changes_nothing(
    others: dict[str, Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a candidate is put on and called, graphs are recorded once."""
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    pipe, graphs = tiny.sd15(), {}
    parameters = others | ({"compile": {"channels_last": True}} if compiled else {})
    parameters = parameters or {"transfers": {"images": False}}

    def look(module: Any, *_: Any) -> None:
        """In the first call of a module."""
        if module in firsts:
            firsts.remove(module)
            bound = graphs.setdefault(module, recorded(module))
            assert kept(bound, module), "it would be recorded again"

    for part in (pipe.unet, pipe.vae.decoder):
        part.register_forward_pre_hook(look)
    for _ in range(2):
        with combination(list(parameters)).applied(pipe, parameters) as call:
            for _ in range(2):
                firsts = [pipe.unet, pipe.vae.decoder]
                call("a dot", num_inference_steps=3, output_type="np")
                assert not firsts
    assert len(graphs) == 2


def test_a_replaced_part_is_refused_in_the_next_call() -> None:
    pipe = tiny.sd15()
    own, calls = {"decoder": True}, []
    call = PLUGIN.finish(pipe, own, {}, lambda *args, **kwargs: calls.append(args))
    call("a dot")
    assert calls == [("a dot",)]
    for part, other in (("vae", tiny.sd15(1).vae), ("unet", tiny.sd15(1).unet)):
        before = getattr(pipe, part)
        setattr(pipe, part, other)
        with pytest.raises(UnsupportedError, match=r"CUDA graphs: a part of the pipeline was rep"):
            call("a dot")
        setattr(pipe, part, before)
    call("a dot")
    assert len(calls) == 2
