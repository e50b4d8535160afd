"""Locks that the processes of all users of a machine share, gone with the process that holds them.

They are `fcntl.flock`'s, and not the library filelock's, which has no shared locks. Files are
never written to, so that one that somebody put there harms no other. Whoever may run programs on a
machine may hold its locks: they keep the well-meaning apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from diffaccel.errors import InputError

FOLDER = Path("/tmp/diffaccel")
"""The same for all users, whatever their ``TMPDIR`` is."""
OWN = "DIFFACCEL_LOCKS"
"""Environment variable that names another folder."""
SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX
_ALL_MAY = 0o666
_STICKY = 0o1777


def path(name: str) -> Path:
    """Where a lock is.

    Raises:
        InputError: there can be no folder of locks, or it is not safe.
    """
    folder = Path(os.environ.get(OWN) or FOLDER)
    try:
        with _unmasked():
            folder.mkdir(_STICKY, exist_ok=True)
        mode = folder.lstat().st_mode
    except OSError as error:
        raise InputError(f"no folder for locks: {error}; name another in {OWN}") from None
    if not stat.S_ISDIR(mode) or (mode & stat.S_IWOTH and not mode & stat.S_ISVTX):
        raise InputError(
            f"{folder} is not a folder whose files are safe from other users: remove it, or name "
            f"another in {OWN}"
        )
    return folder / name


def take(lock: Path, how: int = EXCLUSIVE) -> int:
    """Waits for a lock; the descriptor that holds it until it is closed."""
    while True:
        handle = _opened(lock)
        fcntl.flock(handle, how)
        if _is_current(handle, lock):
            return handle
        os.close(handle)


def try_to_take(lock: Path, how: int = EXCLUSIVE) -> int | None:
    """The same, or None where somebody has it."""
    handle = _opened(lock)
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if _is_current(handle, lock):
        return handle
    os.close(handle)
    return try_to_take(lock, how)


@contextlib.contextmanager
def held(lock: Path, how: int = EXCLUSIVE) -> Iterator[None]:
    """The time in which this process has a lock."""
    handle = take(lock, how)
    try:
        yield
    finally:
        os.close(handle)


def holders(pattern: str) -> set[int]:
    """Processes that hold locks of these names, as far as this one can see them."""
    files = {each.stat().st_ino for each in path("").glob(pattern)}
    try:
        rows = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    # 1: FLOCK  ADVISORY  WRITE 5541 fe:00:2146360 0 EOF; who waits has "->" in the second place.
    found = [row.split() for row in rows if " FLOCK " in row and "->" not in row]
    return {int(row[4]) for row in found if int(row[5].rpartition(":")[2]) in files}


def _opened(lock: Path) -> int:
    """A file of everybody's. One that is there is opened without O_CREAT: where the system protects
    files in such folders (``fs.protected_regular``), that would fail for another user's."""
    try:
        handle = _read_or_made(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{error}: remove it, or name another folder in {OWN}") from None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise InputError(f"{lock} is not a file: remove it, or name another folder in {OWN}")


def _read_or_made(lock: Path, flags: int) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(lock, flags)
        with contextlib.suppress(FileExistsError), _unmasked():
            return os.open(lock, flags | os.O_CREAT | os.O_EXCL, _ALL_MAY)


def _is_current(handle: int, lock: Path) -> bool:
    """Whether a file is still the lock, and was not cleaned away meanwhile; not soon, from now."""
    with contextlib.suppress(OSError):
        os.utime(handle)
    try:
        return os.path.samestat(os.fstat(handle), lock.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _unmasked() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
