"""The rooms of the package: imports go down, and a newcomer finds a file by its room's face."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import made, rooms

PACKAGE = Path("workflow/diffaccel")
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))


def test_imports_go_down_or_stay_in_the_room() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-logo"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_there_are_few_rooms() -> None:
    assert 0 < len(ROOMS) <= 12


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_the_face_of_a_room_names_what_is_in_it(room: Path) -> None:
    face = (room / "__init__.py").read_text(encoding="utf-8")
    modules = [path.stem for path in room.glob("*.py") if not path.stem.startswith("_")]
    folders = [path.parent.name for path in room.glob("*/__init__.py")]
    assert [name for name in (*modules, *folders) if f"`{name}`" not in face] == []


def test_the_picture_of_the_rooms_is_of_the_imports() -> None:
    page = rooms.PAGE.read_text(encoding="utf-8")
    assert page == made.written(page, rooms.PARTS), "run `make pages`"
    assert "cli -->" in page
