"""Models from a hub: found, refused, broken off, and without a network. The client is the real one,
in a process with a cache of its own; the hub is on loopback."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffaccel.experiment.config import load
from diffaccel.experiment.resolve import model_spec
from diffaccel.plugins.metrics import MetricChoice
from diffaccel.plugins.models import ModelSpec, known_models
from diffaccel.plugins.models._hub import MIRRORS
from diffaccel.plugins.models._spec import Lora
from diffaccel.plugins.models.mini import tiny
from diffaccel.store.jsonio import read_record, to_json
from tests.hub.server import Hub, Repository

ROOT = Path(__file__).parents[2]
WEIGHTS = "pytorch_lora_weights.safetensors"
MESSAGES = """
import json, sys
from diffaccel.store.jsonio import parse
from diffaccel.plugins.models import FAMILIES, ModelError
from diffaccel.plugins.models import ModelSpec

for value in json.loads(sys.argv[1]):
    spec = parse(ModelSpec, value, "spec")
    try:
        FAMILIES[spec.family].fetch(spec)
    except ModelError as error:
        print(error)
    else:
        print("fetched")
"""
SCORER = """
import sys
from diffaccel.plugins.models import fetch_scorer
print(fetch_scorer(sys.argv[1]))
"""

METRIC = """
import sys
from diffaccel.plugins.metrics import METRICS
METRICS["pick_score"].prepare(sys.argv[1], "cpu")
print("ready")
"""


@dataclasses.dataclass(frozen=True)
class Client:
    """Processes with this cache that know this hub."""

    hub: Hub
    cache: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        named = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.cache), "OMP_NUM_THREADS": "1"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        return subprocess.run(
            [sys.executable, *command],
            env=inherited | named | {"PYTHONPATH": str(ROOT / "workflow")} | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def messages(self, *specs: ModelSpec, **environment: str) -> list[str]:
        """What fetching each of these models says."""
        done = self.run("-c", MESSAGES, json.dumps([to_json(s) for s in specs]), **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def model(self, spec: ModelSpec, out: Path, **environment: str) -> ModelSpec:
        """What the model job makes of it."""
        job = json.dumps({"spec": to_json(spec)})
        done = self.run("-m", "diffaccel", "model", "--job", job, "--out", str(out), **environment)
        assert done.returncode == 0, done.stderr
        return read_record(ModelSpec, out)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "cache")


@pytest.fixture(scope="module")
def repositories(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Repository]:
    """A pipeline as they lie on hubs, with pickles, variants and a safety checker beside what is
    loaded; a VAE; a scorer."""
    folder = tmp_path_factory.mktemp("hub")
    tiny.save("SD1.5", folder / "sd")
    for weights in (folder / "sd").glob("*/*.safetensors"):
        shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
        weights.with_suffix(".bin").write_bytes(b"a pickle")
    (folder / "sd/safety_checker").mkdir()
    (folder / "sd/safety_checker/model.safetensors").write_bytes(b"not wanted")
    index = json.loads((folder / "sd/model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "sd/model_index.json").write_text(json.dumps(index))
    tiny.FAMILIES["SD1.5"](1).vae.save_pretrained(folder / "vae")
    shutil.copytree(ROOT / "resources/models/mini-clip", folder / "clip")
    made = {f"me/{name}": Repository(folder / name) for name in ("sd", "vae", "clip")}
    hub.repositories |= made
    return made


def spec_of(**entry: Any) -> ModelSpec:
    entry = {"name": "x", "family": "SD1.5", "source": "me/sd", "scorer": "me/clip"} | entry
    prompts = str(ROOT / "resources/prompts/mini.txt")
    return model_spec(load({"models": [entry | {"prompts": prompts}]}).models[0])


LOADED = """
import json, runpy, sys
import torch
from diffaccel.evaluation import bench
from diffaccel.recipes.codegen import Script, render
from diffaccel.store.jsonio import parse
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models import ModelSpec

bench.be_quiet()
spec = parse(ModelSpec, json.loads(sys.argv[1]), "spec")
script = Script("x", spec.source, "StableDiffusionPipeline", "DDIMScheduler", 2, 7.5, 32, 32,
    load_arguments=FAMILIES["SD1.5"].load_arguments(), variant=spec.variant, vae=spec.vae)
with open(sys.argv[2], "w") as file:
    file.write(render(script))
own = FAMILIES["SD1.5"].load(spec, "float32", "cpu")
other = runpy.run_path(sys.argv[2])["load_pipeline"](device="cpu")
for name in ("unet", "vae", "text_encoder"):
    first, second = getattr(own, name).state_dict(), getattr(other, name).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first), name
assert own.safety_checker is None and other.safety_checker is None
like = torch.cat([value.flatten() for value in own.vae.state_dict().values()])
print(float(like.sum()))
"""


@pytest.mark.long
def test_a_model_is_fetched_once_and_then_needs_no_network(
    client: Client, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    hub, spec = client.hub, spec_of(variant="fp16", vae="me/vae")
    hub.requests.clear()
    pinned = client.model(spec, tmp_path / "first.json")
    for given, got in ((spec.source, pinned.source), (spec.vae, pinned.vae)):
        assert given is not None
        assert got == f"{given}@{repositories[given].commit}"
    assert pinned.scorer == f"me/clip@{repositories['me/clip'].commit}"

    weights = {r.path for r in hub.requests if r.method == "GET" and "/resolve/" in r.path}
    weights = {path.split("/", 5)[5] for path in weights if not path.endswith((".json", ".txt"))}
    assert weights == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors",  # of the VAE
        "model.safetensors",  # of the scorer
    }

    hub.requests.clear()
    offline = {"HF_HUB_OFFLINE": "1"}
    assert client.model(spec, tmp_path / "second.json", **offline) == pinned
    script = str(tmp_path / "script.py")
    done = client.run("-c", LOADED, json.dumps(to_json(pinned)), script, **offline)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    replaced = tiny.FAMILIES["SD1.5"](1).vae.state_dict().values()
    assert float(done.stdout) == pytest.approx(
        float(sum(part.sum() for part in replaced)), rel=1e-3
    )


TASKS = """
import json, sys
from diffaccel.evaluation import bench
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.recipes.scripts import baseline_script
from diffaccel.store.jsonio import parse

bench.be_quiet()
for value in json.loads(sys.argv[1]):
    spec = parse(ModelSpec, value, "spec")
    own = FAMILIES[spec.family].load(spec, "float32", "cpu")
    space = {"__file__": "script.py", "__name__": "script"}
    exec(baseline_script(spec, Configuration("x", "DDIM", 2), "x"), space)
    other = space["load_pipeline"](device="cpu")
    assert type(own) is type(other), (own, other)
    print(type(own).__name__, own.unet.config.in_channels, len(own.components))
"""


@pytest.mark.long
def test_models_of_tasks_are_pinned_and_then_need_no_network(
    client: Client, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    """A ControlNet beside a model, and a model that was saved as one for inpainting."""
    paint = tiny.save_inpainting("SD1.5", tmp_path / "paint")
    index = json.loads((paint / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInpaintPipeline"
    (paint / "model_index.json").write_text(json.dumps(index))
    net = tiny.save_controlnet("SD1.5", tmp_path / "net")
    client.hub.repositories |= {"me/paint": Repository(paint), "me/net": Repository(net)}
    plain = spec_of()
    specs = [
        dataclasses.replace(plain, task="controlnet", controlnet="me/net", controlnet_scale=1.0),
        dataclasses.replace(plain, task="inpainting", source="me/paint", strength=1.0),
    ]
    pinned = [client.model(spec, tmp_path / "model.json") for spec in specs]
    assert pinned[0].controlnet == f"me/net@{client.hub.repositories['me/net'].commit}"
    assert pinned[1].source == f"me/paint@{client.hub.repositories['me/paint'].commit}"
    client.hub.requests.clear()
    told = json.dumps([to_json(spec) for spec in pinned])
    done = client.run("-c", TASKS, told, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert client.hub.requests == []
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["StableDiffusionControlNetPipeline", "4"],
        ["StableDiffusionInpaintPipeline", "9"],
    ]
    (said,) = client.messages(spec_of(source="me/paint"))
    assert "set `task: inpainting`" in said


FETCHED = """
import json, sys
from diffaccel.evaluation import bench
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.store.jsonio import parse

bench.be_quiet()
pinned, given = (parse(ModelSpec, each, "spec") for each in json.loads(sys.argv[1]))
pipe = FAMILIES["SD1.5"].load(pinned, "float32", "cpu")
print(json.dumps(pipe.get_list_adapters()))
print(FAMILIES["SD1.5"].fetch(given).spec == pinned)
"""


@pytest.mark.long
def test_a_lora_of_a_hub_is_pinned_and_then_needs_no_network(
    client: Client, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    """The only file of a repository, or one that is named; by the commit that was found."""
    hub, folder = client.hub, tmp_path / "loras"
    tiny.save_lora("SD1.5", folder / "one", 1)
    tiny.save_lora("SD1.5", folder / "two/deep", 2)
    tiny.save_lora("SDXL", folder / "wide", 2)
    shutil.copy(folder / "two/deep/pytorch_lora_weights.safetensors", folder / "two/x.safetensors")
    shutil.copy(folder / "two/x.safetensors", folder / "two/y.safetensors")
    for name in ("one", "two", "wide"):
        hub.repositories[f"me/{name}"] = Repository(folder / name)
    deep = "deep/pytorch_lora_weights.safetensors"
    lora = ["me/one", {"source": "me/two@main", "weight": 0.5, "weight_name": deep}]
    given = spec_of(lora=lora)
    pinned = client.model(given, tmp_path / "first.json")
    assert pinned.lora == (
        Lora(f"me/one@{hub.repositories['me/one'].commit}", 1.0, WEIGHTS),
        Lora(f"me/two@{hub.repositories['me/two'].commit}", 0.5, deep),
    )
    hub.requests.clear()
    specs = json.dumps([to_json(pinned), to_json(given)])
    done = client.run("-c", FETCHED, specs, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    adapters, same = done.stdout.splitlines()
    both = ["lora_1", "lora_2"]
    assert json.loads(adapters) == {"unet": both, "text_encoder": both} and same == "True"
    assert hub.requests == []

    several, wide, nothing = client.messages(
        spec_of(lora="me/two"), spec_of(lora="me/wide"), spec_of(lora="me/nothing")
    )
    assert several == (
        f"model 'x': lora: me/two has several files of weights: {deep}, x.safetensors, "
        "y.safetensors; say which as weight_name"
    )
    assert wide.startswith("model 'x': lora: ") and "cross-attention width 32" in wide
    assert nothing.startswith("model 'x': lora: there is no 'me/nothing' at")


def test_what_is_refused(
    client: Client, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    hub, sd = client.hub, repositories["me/sd"].folder
    hub.repositories["me/gated"] = Repository(sd, gated=True)
    shutil.copytree(sd, tmp_path / "old", ignore=shutil.ignore_patterns("*.safetensors"))
    hub.repositories["me/old"] = Repository(tmp_path / "old")
    for name, change in (("inpainting", {"in_channels": 9}), ("image", {"class_embed_type": "x"})):
        unet = shutil.copytree(sd, tmp_path / name) / "unet/config.json"
        unet.write_text(json.dumps(json.loads(unet.read_text()) | change))
        hub.repositories[f"me/{name}"] = Repository(tmp_path / name)
    shutil.copytree(sd, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer"))
    hub.repositories["me/mute"] = Repository(tmp_path / "mute")
    withdrawn = next(iter(MIRRORS))
    expected = {
        spec_of(source="me/nothing"): [
            "there is no 'me/nothing'",
            "asked without a token",
            hub.url,
        ],
        spec_of(source=withdrawn): [withdrawn, f"copy is {MIRRORS[withdrawn]!r}"],
        spec_of(source="me/sd@old"): ["'me/sd' has no branch, tag or commit 'old'"],
        spec_of(source="me/gated"): [
            "'me/gated' is gated (asked without a token): accept its licence"
        ],
        spec_of(source="me/old"): ["me/old", "unet has only pickled weights", "Convert them"],
        spec_of(family="SDXL"): ["is a StableDiffusionPipeline, but the family 'SDXL' needs"],
        spec_of(variant="int8"): ["no weights of the variant 'int8'; it has: fp16"],
        spec_of(vae="me/nothing"): ["vae: there is no 'me/nothing'"],
        spec_of(vae="me/sd"): ["vae: 'me/sd' is of another kind"],
        spec_of(source="me/inpainting"): ["takes 9 channels", "(inpainting)"],
        spec_of(source="me/image"): ["class_embed_type is 'x', so the U-Net needs other inputs"],
        spec_of(source="me/mute"): ["has no tokenizer/tokenizer.json or vocab.json: a pipeline"],
        spec_of(scorer="me/nothing"): ["scorer: there is no 'me/nothing'"],
    }
    hub.requests.clear()
    said = client.messages(*expected)
    assert len(said) == len(expected)
    for message, (spec, words) in zip(said, expected.items(), strict=True):
        assert message.startswith("model 'x': "), message
        assert all(word in message for word in words), (spec, message)
    large = [request for request in hub.requests if request.path.endswith(".safetensors")]
    assert large == [], "something was downloaded before all was looked at"

    gated, missing = client.messages(
        spec_of(source="me/gated"), spec_of(source="me/nothing"), HF_TOKEN="hf_x"
    )
    assert "is gated (asked with a token)" in gated
    assert "there is no 'me/nothing'" in missing and "asked with a token" in missing


@pytest.mark.long
def test_the_weights_of_a_metric_are_pinned_and_then_need_no_network(
    client: Client, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    chosen = (MetricChoice("pick_score", "me/clip"), MetricChoice("scene_right"))
    spec = dataclasses.replace(known_models()["mini-SD1.5"], metrics=chosen)
    found = client.model(spec, tmp_path / "a.json")
    pinned = f"me/clip@{repositories['me/clip'].commit}"
    assert found.metrics == (MetricChoice("pick_score", pinned), MetricChoice("scene_right"))
    asked = len(client.hub.requests)
    offline = client.run("-c", METRIC, pinned, HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == "ready" and len(client.hub.requests) == asked


def test_weights_of_a_metric_that_are_out_of_reach_are_one_message(client: Client) -> None:
    spec = dataclasses.replace(
        known_models()["mini-SD1.5"], metrics=(MetricChoice("pick_score", "some/preference"),)
    )
    job = json.dumps({"spec": to_json(spec)})
    done = client.run("-m", "diffaccel", "model", "--job", job, "--out", "x", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    (said,) = [line for line in done.stderr.splitlines() if "metric" in line]
    assert said.startswith("metric 'pick_score': 'some/preference' is not wholly in the cache")


def test_an_empty_cache_and_no_network(client: Client) -> None:
    (told,) = client.messages(spec_of(), HF_HUB_OFFLINE="1")
    (down,) = client.messages(spec_of(), HF_ENDPOINT="http://127.0.0.1:9")
    assert "'me/sd' is not wholly in the cache" in told and str(client.cache) in told
    assert "HF_HUB_OFFLINE" in told
    assert "could not be fetched from http://127.0.0.1:9" in down and "network and proxy" in down


@pytest.fixture
def large(hub: Hub, tmp_path: Path) -> Repository:
    """A network of more than one chunk of a download."""
    size = 24_000_000
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"weight": tensor}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(range(250)) * (size // 250)
    (folder / "model.safetensors").write_bytes(content)
    hub.repositories["me/large"] = Repository(folder)
    return hub.repositories["me/large"]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(client: Client, large: Repository) -> None:
    large.cuts["model.safetensors"] = [15_000_000]
    client.hub.requests.clear()
    done = client.run("-c", SCORER, "me/large")
    assert done.returncode == 0, done.stderr
    ranges = [request.bytes for request in client.hub.transfers("model.safetensors")]
    assert len(ranges) == 2 and ranges[0] is None
    assert ranges[1] is not None and 0 < int(ranges[1][len("bytes=") : -1]) <= 15_000_000
    got = Path(done.stdout.strip()) / "model.safetensors"
    assert got.read_bytes() == large.files["model.safetensors"].read_bytes()


@pytest.mark.long
def test_a_transfer_that_breaks_off_for_good_is_said_and_can_be_started_again(
    client: Client, large: Repository
) -> None:
    large.cuts["model.safetensors"], large.closed = [15_000_000], True
    done = client.run("-c", SCORER, "me/large")
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert "ModelError: scorer: 'me/large@" not in message
    assert "'me/large' could not be fetched" in message and "start again" in message
    large.closed = False
    client.hub.requests.clear()
    done = client.run("-c", SCORER, "me/large")
    assert done.returncode == 0, done.stderr
    assert client.hub.transfers("config.json") == []
