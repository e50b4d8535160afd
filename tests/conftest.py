"""Settings for all tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from diffaccel.machine import locks

# Tests run side by side: more threads than cores make tiny networks a hundred times slower, in
# this process and in those that it starts.
os.environ["OMP_NUM_THREADS"] = "1"

# No test fails since a machine is slow.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# What a shell starts in the background ignores these, and so does all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who tests waits for nobody who measures on this machine, nor for another who tests."""
    os.environ[locks.OWN] = str(tmp_path_factory.mktemp("locks"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The run that others wait for first, then other whole runs, the many short tests last: so that
    no worker waits, and both end at the same time."""
    items.sort(key=lambda item: (item.path.name != "test_chain.py", "unit" in item.path.parts))
