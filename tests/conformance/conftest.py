"""Tiny pipelines, made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from diffaccel import tiny

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
