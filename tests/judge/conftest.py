"""What tests of the judge share: whether there is a sandbox here."""

from __future__ import annotations

import pytest

from diffaccel.benchmark.judge import sandbox


@pytest.fixture(scope="session")
def sandboxed() -> str:
    """What judged code is run in; without it, a test that needs it is skipped with the reason."""
    try:
        return sandbox.how(True)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))
