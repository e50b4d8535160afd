"""The lines of a script that load LoRAs and textual inversions, as diffusers documents it.

`diffaccel.plugins.models._additions` loads the same for what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.plugins.models._additions import SIDES, adapter
from diffaccel.plugins.models._spec import Addition, Lora, TextualInversion, place_of
from diffaccel.plugins.sources import is_local, split
from diffaccel.recipes.literals import literal

if TYPE_CHECKING:
    from diffaccel.recipes.codegen import Script

TWO_ENCODERS = "StableDiffusionXL"
"""What the names of pipelines begin with that take the embeddings of a word one encoder at a
time."""
MENDED = (
    "# https://github.com/huggingface/diffusers/issues/14124",
    'if not hasattr(pipe.text_encoder, "text_model"):',
    '    vars(pipe.text_encoder).setdefault("text_model", pipe.text_encoder)',
)
"""What lets ``clip_skip`` work; see `diffaccel.plugins.models._additions.mend_clip_skip`."""


def constants(script: Script) -> dict[str, str]:
    """What is loaded on top, by the names of its constants: paths, or hub ids with revisions."""
    return {name: place_of(each) for name, each in _named(script)}


def _named(script: Script) -> Iterator[tuple[str, Addition]]:
    for number, each in enumerate(script.textual_inversion, start=1):
        yield f"EMBEDDING_{number}", each
    for number, lora in enumerate(script.lora, start=1):
        yield adapter(number).upper(), lora


def _two_encoders(script: Script) -> bool:
    return script.pipeline_class.startswith(TWO_ENCODERS)


def imports(script: Script) -> tuple[str, ...]:
    """What the lines need."""
    if not _two_encoders(script) or not script.textual_inversion:
        return ()
    on_hub = any(not is_local(each.source) for each in script.textual_inversion)
    hub = ("from huggingface_hub import hf_hub_download",) if on_hub else ()
    return ("from safetensors.torch import load_file", *hub)


def lines(script: Script, places: Mapping[str, str]) -> list[str]:
    """The lines themselves, once there is a pipeline ``pipe``.

    Args:
        places: expressions for where each constant's file is.
    """
    found: list[str] = []
    for name, each in _named(script):
        if isinstance(each, Lora):
            file = _file(each)
            given = {**file, "adapter_name": literal(name.lower()), "use_safetensors": "True"}
            found.append(_call("pipe.load_lora_weights", places[name], given))
        elif _two_encoders(script):
            found += _two_embeddings(each, places[name])
        else:
            given = {**_file(each), "token": literal(each.token), "use_safetensors": "True"}
            found.append(_call("pipe.load_textual_inversion", places[name], given))
    mended = MENDED if script.clip_skip and not _two_encoders(script) else ()
    return [*found, *_activated(script), *mended]


def _activated(script: Script) -> list[str]:
    """All LoRAs at once, beside the weights or in them."""
    if not script.lora:
        return []
    names = ", ".join(literal(adapter(number)) for number, _ in enumerate(script.lora, start=1))
    weights = ", ".join(literal(float(lora.weight)) for lora in script.lora)
    fused = [f"pipe.fuse_lora(adapter_names=[{names}])", "pipe.unload_lora_weights()"]
    return [f"pipe.set_adapters([{names}], [{weights}])", *(fused if script.fused else [])]


def _two_embeddings(word: TextualInversion, place: str) -> list[str]:
    path = place if is_local(word.source) else _call("hf_hub_download", place, _downloaded(word))
    return [
        f"embeddings = load_file({path})",
        *(
            _call(
                "pipe.load_textual_inversion",
                f"embeddings[{literal(side)}]",
                {
                    "token": literal(word.token),
                    "text_encoder": f"pipe.text_encoder{suffix}",
                    "tokenizer": f"pipe.tokenizer{suffix}",
                },
            )
            for side, suffix in zip(SIDES, ("", "_2"), strict=True)
        ),
    ]


def _file(addition: Addition) -> dict[str, str]:
    """Arguments that name the file in a repository; of a local one the path does."""
    if is_local(addition.source):
        return {}
    revision = split(addition.source)[1]
    given = {"weight_name": addition.weight_name, "revision": revision}
    return {name: literal(value) for name, value in given.items() if value is not None}


def _downloaded(word: TextualInversion) -> dict[str, str]:
    given = _file(word)
    return {("filename" if name == "weight_name" else name): v for name, v in given.items()}


def _call(function: str, first: str, arguments: Mapping[str, str]) -> str:
    named = "".join(f", {name}={source}" for name, source in arguments.items())
    return f"{function}({first}{named})"


def summary(script: Script) -> list[str]:
    """Paragraphs of a script's docstring."""
    found = [
        f"Textual inversion: {each.token} is {_shown(each)}" for each in script.textual_inversion
    ]
    if script.lora:
        loras = (f"{_shown(each)}, weight {each.weight:g}" for each in script.lora)
        fused = "; fused into the weights" if script.fused else ""
        found.append(f"LoRA: {'; '.join(loras)}{fused}")
    if script.negative_prompt:
        found.append(f"Negative prompt: {script.negative_prompt}")
    return found


def _shown(addition: Addition) -> str:
    place = place_of(addition)
    if is_local(addition.source):
        return Path(place).name
    name = split(place)[0]
    return f"{addition.weight_name} of {name}" if addition.weight_name else name
