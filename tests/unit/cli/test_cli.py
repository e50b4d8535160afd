"""What the command line says of itself, and of what it does not understand: one line each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diffaccel import __version__
from diffaccel.cli.main import GROUPS, main


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status, and all that was printed or logged."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, captured.out + captured.err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"diffaccel {__version__}\n")


def test_the_help_groups_what_people_call_and_leaves_the_stages_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text = said(capsys, "--help")
    groups = re.findall(r"^(\w.*):$", text, re.M)
    assert status == 0 and groups == list(GROUPS)
    listed = re.findall(r"^  (\w+) ", text, re.M)
    assert listed == [name for names in GROUPS.values() for name in names]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("recomend",), "there is no command 'recomend'; did you mean 'recommend'? Known: run, "),
        (
            ("show", "--foo"),
            "diffaccel show: unrecognized arguments: --foo. `diffaccel show ",
        ),
        ((), "the following arguments are required: COMMAND. `diffaccel --help` says more"),
    ],
)
def test_what_is_not_understood_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    status, text = said(capsys, *arguments)
    assert status == 2 and says in text and text.count("\n") == 1 and "usage" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("show", "nowhere"),
        ("report",),
        ("report", "nowhere"),
        ("compare",),
        ("compare", "nowhere"),
        ("picture", "x", "--out", "x.png"),
    ],
)
def test_outside_of_results_nothing_is_made(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit) as end:
        main(arguments)
    folder = "nowhere" if "nowhere" in arguments else "results/cpu"
    assert end.value.code == 2
    assert f"there is no folder {folder} in {tmp_path}: change to the folder" in caplog.text
    assert not list(tmp_path.iterdir())
