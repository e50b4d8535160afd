"""What a model's links lead to is seen by a script, as it is by whoever loads the model here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from diffaccel.benchmark.judge.judge_configuration import sandbox_mounts
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.benchmark.judge.links import with_links
from diffaccel.benchmark.judge.mounts import CODE, SandboxMounts
from diffaccel.benchmark.judge.protocol import Failed
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.plugins.models import known_models

LIMITS = Limits(memory=400 * 2**20, scratch=2**20, load_seconds=10, call_seconds=5)
READS = """
import pathlib

def load_pipeline():
    found = [pathlib.Path(each).read_text() for each in {files!r}]
    raise ValueError(" ".join(found))
"""


def read_there(seen: SandboxMounts, *files: Path) -> str:
    source = READS.format(files=[str(each) for each in files])
    try:
        with Sandbox(source.encode(), seen, LIMITS) as opened:
            opened.load()
    except Failed as error:
        return str(error).removeprefix("ValueError: ")
    raise AssertionError("it reads")


def snapshot(folder: Path) -> Path:
    """A model as a hub's cache has it, with a U-Net that lies elsewhere."""
    for name, text in {"blobs/1": "index", "blobs/2": "weights", "real/deep/vae/v": "vae"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    model = folder / "snapshots" / "abc"
    model.mkdir(parents=True)
    (model / "model_index.json").symlink_to("../../blobs/1")
    (folder / "real/unet").mkdir()
    (folder / "real/unet/w").symlink_to("../../blobs/2")
    (model / "unet").symlink_to("../../real/unet")
    (folder / "vae").symlink_to(folder / "real/deep/vae")
    (model / "vae").symlink_to(folder / "vae")  # a link to a link
    (model / "again").symlink_to("vae")
    (model / "nowhere").symlink_to("../../absent")
    return model


def test_links_out_of_a_model_are_followed(sandboxed: str, tmp_path: Path) -> None:
    model = snapshot(tmp_path)
    seen = sandbox_mounts(replace(known_models()["mini-SD1.5"], source=str(model)), gpu=False)
    names = ("model_index.json", "unet/w", "vae/v", "again/v")
    assert read_there(seen, *(model / name for name in names)) == "index weights vae vae"


def test_also_of_a_model_that_is_a_link_in_the_folder_of_a_run(
    sandboxed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = snapshot(tmp_path / "far/away")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine").symlink_to(model)
    monkeypatch.chdir(tmp_path / "run")
    seen = sandbox_mounts(replace(known_models()["mini-SD1.5"], source="./mine"), gpu=False)
    there = Path(CODE, "mine")
    assert read_there(seen, there / "model_index.json", there / "unet/w", there / "vae/v") == (
        "index weights vae"
    )


def test_no_link_shows_what_holds_the_model_or_is_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, home = tmp_path / "data/model", tmp_path / "people/me"
    model.mkdir(parents=True)
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (model / "up").symlink_to("..")
    (model / "root").symlink_to("/")
    (model / "all").symlink_to(home.parent)
    (model / "itself").symlink_to("itself")
    (model / "back").symlink_to(model)
    seen: Mapping[str, Path] = {str(model): model}
    assert with_links(seen) == seen
