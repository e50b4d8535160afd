"""Locks of all users of a machine, and what somebody may have put in their place."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffaccel.errors import InputError
from diffaccel.machine import locks

OTHERS = (65533, 65534)
"""Ids of users that own nothing."""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where locks are made, in a folder that all users can reach."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o777)
    monkeypatch.setenv(locks.OWN, str(place / "locks"))
    yield place / "locks"
    shutil.rmtree(place)


def as_user(user: int, work: Callable[[], bool]) -> bool:
    """What a user gets, who keeps his files to himself."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.umask(0o077)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def is_free(name: str) -> bool:
    handle = locks.try_to_take(locks.path(name))
    if handle is not None:
        os.close(handle)
    return handle is not None


def test_shared_ones_are_of_many_and_exclusive_ones_of_one(folder: Path) -> None:
    lock = locks.path("a.lock")
    with locks.held(lock, locks.SHARED):
        assert locks.try_to_take(lock) is None
        other = locks.try_to_take(lock, locks.SHARED)
        assert other is not None
        os.close(other)
    with locks.held(lock):
        assert locks.try_to_take(lock, locks.SHARED) is None
    assert is_free("a.lock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
def test_users_see_each_others(folder: Path) -> None:
    one, other = OTHERS
    assert as_user(one, lambda: is_free("a.lock"))
    assert (folder / "a.lock").stat().st_uid == one
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    with locks.held(locks.path("a.lock")):
        assert not as_user(other, lambda: is_free("a.lock"))
    assert as_user(other, lambda: is_free("a.lock"))


def test_what_is_no_lock_is_refused_and_left_as_it_is(folder: Path) -> None:
    locks.path("")
    mine = folder.parent / "mine"
    mine.write_text("precious")
    (folder / "link").symlink_to(mine)
    (folder / "dangling").symlink_to(folder.parent / "new")
    os.mkfifo(folder / "pipe")
    for name in ("link", "dangling", "pipe"):
        with pytest.raises(InputError, match="remove it, or name another"):
            locks.try_to_take(locks.path(name))
    assert mine.read_text() == "precious" and not (folder.parent / "new").exists()


def test_a_folder_in_which_others_may_replace_files_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(InputError, match="not a folder whose files are safe"):
        locks.path("a.lock")
    folder.rmdir()
    folder.symlink_to(folder.parent)
    with pytest.raises(InputError, match="not a folder whose files are safe"):
        locks.path("a.lock")


def test_a_lock_that_was_cleaned_away_is_made_again(folder: Path) -> None:
    """Who waited for the old file must not believe that he has the lock."""
    lock, got = locks.path("a.lock"), list[int]()
    old = locks.take(lock)
    waiting = threading.Thread(target=lambda: got.append(locks.take(lock)))
    waiting.start()
    time.sleep(0.2)
    lock.unlink()
    new = locks.take(lock)
    os.close(old)
    waiting.join(0.3)
    assert not got
    os.close(new)
    waiting.join()
    os.close(got[0])


def test_who_holds_a_lock_is_known(folder: Path) -> None:
    assert locks.holders("gpu-*") == set()
    with locks.held(locks.path("gpu-1.lock")):
        assert locks.holders("gpu-*") == {os.getpid()}
        assert locks.holders("cpu-*") == set()
