"""`diffaccel compare`: what it asks about, and what it says where it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.cli import compare, main
from diffaccel.evaluation.bench import save_images
from diffaccel.evaluation.gallery import Gallery
from diffaccel.experiment.grid import Configuration
from diffaccel.report.blind import Session
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = {("deepcache",): store.deepcache(3), ("tgate",): store.tgate(9)}
    cells = {names: [store.measurement(row, 2.0, 0.001)] for names, row in rows.items()}
    store.write(tmp_path, CONFIGURATION, cells)
    baseline, images = store.baseline(CONFIGURATION), np.zeros((4, 16, 16, 3), np.uint8)
    save_images(tmp_path / "cpu/baseline" / CONFIGURATION.slug, images)
    for row in rows.values():
        Gallery.beside(tmp_path / "cpu/journal", baseline).keep(row, images)
    return tmp_path / "cpu"


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Session:
    """The session of a call, in which nothing is said."""
    found: list[Session] = []
    monkeypatch.setattr(compare, "_ask", lambda session, port, browser: found.append(session))
    main(["compare", *map(str, arguments)])
    return found[0]


def test_all_answers_or_a_choice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(asked(monkeypatch, folder).left) == 8
    made = asked(
        monkeypatch,
        *(folder, "--accelerators", "t-gate", "--model", "mini sd1.5", "--scheduler", "ddim"),
        *("--judge", "me", "--seed", "5"),
    )
    assert len(made.left) == 4 and (made.judge, made.seed) == ("me", 5)


def test_results_are_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = asked(monkeypatch, folder)
    assert f"diffaccel report {folder}" in capsys.readouterr().out
    made.say(made.shown().name, "same")
    monkeypatch.setattr(compare, "_ask", lambda *_: pytest.fail("nothing is to be asked"))
    main(["compare", str(folder), "--results"])
    text = capsys.readouterr().out
    assert "too few pairs to tell: preferred in 50% of 1 pair (" in text
    assert "not compared yet; 4 pairs of images kept" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "nope"), "unknown model 'nope'"),
        (("--accelerators", "magic"), "unknown accelerator 'magic'"),
        (("--steps", "50"), "there is mini-SD1.5_DDIM_20"),
        (("--port", "99999"), "port 99999 cannot be had"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, arguments: tuple[str, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["compare", str(folder), *arguments])
    assert done.value.code == 2
    (said,) = caplog.messages
    assert says in said and "\n" not in said


def test_where_no_images_are_kept_it_says_what_to_do(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (folder / "journal").rglob("*.webp"):
        path.unlink()
    with pytest.raises(SystemExit) as done:
        main(["compare", str(folder)])
    assert done.value.code == 2
    assert "keeps no images of these 2 answers" in caplog.text
    assert (
        "Add `--generate` on the machine" in caplog.text and "diffaccel store merge" in caplog.text
    )


def test_where_the_baselines_images_are_missing_generating_is_no_help(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (folder / "baseline").rglob("*.png"):
        path.unlink()
    with pytest.raises(SystemExit):
        main(["compare", str(folder)])
    assert "the baseline's images are missing. Run `diffaccel run`" in caplog.text
    assert "--generate" not in caplog.text


def found(pattern: str, text: str) -> str:
    """What the first group of a pattern is in a text."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def test_it_serves_until_it_is_finished(folder: Path) -> None:
    """The command itself: the first line has the address, the last ones what was said."""
    words = ["-m", "diffaccel", "compare", folder, "--no-browser"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *map(str, words)], **pipes) as process:
        address = found(r"(http://127\.0\.0\.1:\d+/)", process.stderr.readline())
        page = urllib.request.urlopen(address).read().decode()
        token = found(r'TOKEN = "(\w+)"', page)

        def ask(path: str, body: dict[str, str]) -> dict[str, Any]:
            text, headers = json.dumps(body).encode(), {"X-Token": token}
            with urllib.request.urlopen(
                urllib.request.Request(address + path, text, headers)
            ) as answer:
                return json.load(answer)

        ask("say", {"pair": ask("pair", {})["pair"], "said": "same"})
        assert ask("finish", {})["judged"] == 1
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "preferred in 50% of 1 pair " in out and "diffaccel report" in out
