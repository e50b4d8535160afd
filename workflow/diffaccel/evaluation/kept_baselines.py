"""Baselines that were measured, outside the outputs that Snakemake deletes: going back to options
that were measured with, or taking more prompts, measures nothing again."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.baseline import BaselineRun
from diffaccel.evaluation.bench import load_images, save_images
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.prompts import Prompt, as_json
from diffaccel.plugins.metrics.base import Images
from diffaccel.store.jsonio import digest, read_record, write_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Baselines:
    """Those of one configuration.

    Args:
        folder: a record and a folder of images each.
    """

    folder: Path

    def before(self, own: str, prompts: Sequence[Prompt]) -> BaselineRun | None:
        """What was measured of the first of these prompts, as many as there are.

        Args:
            own: digest of what determines images and scores besides the prompts.
        """
        best, count = None, 0
        for path, record in self._records(own):
            if (same := _same(record.prompts, prompts)) > count:
                best, count = (path, record), same
        if best is None:
            return None
        path, record = best
        try:
            images = load_images(path.with_suffix(""), record)
        except InputError as error:
            log.warning("measured again: %s", error)
            return None
        scores = {name: each[:count] for name, each in record.scores.items()}
        metrics = record.metrics or {}
        return BaselineRun(images[:count], scores, [], record.seconds, [], metrics=metrics)

    def keep(self, record: Baseline, images: Images) -> None:
        """Keeps a baseline, in the place of those that have but the first of its prompts."""
        path = self.folder / f"{record.digest}_{digest(as_json(record.prompts))}.json"
        save_images(path.with_suffix(""), images)
        write_record(path, record)
        for other, before in self._records(record.digest):
            fewer = record.prompts[: len(before.prompts)] == before.prompts
            if other != path and fewer:
                other.unlink()
                shutil.rmtree(other.with_suffix(""), ignore_errors=True)

    def _records(self, own: str) -> list[tuple[Path, Baseline]]:
        found = []
        for path in sorted(self.folder.glob(f"{own}_*.json")):
            with contextlib.suppress(InputError):  # of another version, or not whole
                found.append((path, read_record(Baseline, path)))
        return found


def _same(first: Sequence[Prompt], second: Sequence[Prompt]) -> int:
    """How many are the same from the first on."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )
