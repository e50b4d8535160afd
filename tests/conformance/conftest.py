"""Tiny pipelines, made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffaccel.plugins.models.mini import tiny

from .cells import Subject


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Subject]:
    """Subject by family and scheduler class; made once, for all tests."""

    @functools.cache
    def folder(family: str) -> Path:
        return tiny.save(family, tmp_path_factory.mktemp(family))

    @functools.cache
    def subject(family: str, scheduler: str) -> Subject:
        return Subject.of(family, scheduler, folder(family))

    return subject


@pytest.fixture(autouse=True)
def no_code_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is traced and run as torch would, but not turned into C++: that takes
    minutes on a CPU, and is torch's own business. `tests/gpu` compiles for real."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
