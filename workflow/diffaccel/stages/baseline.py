"""Measuring the baseline pipeline of a configuration."""

from __future__ import annotations

import contextlib
import logging
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.models import ModelError, ModelSpec
from diffaccel.store.jsonio import write_record

if TYPE_CHECKING:
    from diffaccel.evaluation.baseline import Before
    from diffaccel.evaluation.calls import Bench
    from diffaccel.plugins.metrics.base import Images

log = logging.getLogger(__name__)


def run(
    configuration: Configuration,
    spec: ModelSpec,
    options: MeasureOptions,
    platform: str,
    out: Path,
    images: Path,
    kept: Path,
    job: object = None,
) -> None:
    """Writes the record and the images of a baseline, of smaller batches than asked for where the
    memory is not enough.

    Args:
        kept: folder of what was measured of the configuration before, which is not measured again.
        job: what was asked for, as JSON, which the record notes.

    Raises:
        InputError: this is other hardware than the results are for, the model is untrained, or its
            images do not fit.
    """
    if spec.untrained:
        raise ModelError(
            f"model {spec.name!r} is untrained: it generates noise, whose score means nothing, "
            "so it has no baseline and no bound; `diffaccel speed` times it"
        )
    from diffaccel.evaluation import bench
    from diffaccel.evaluation.kept_baselines import Baselines

    with contextlib.ExitStack() as stack:
        device = bench.take_device(stack, spec, platform)
        before = Baselines(kept)
        record, made = _measured(
            bench.open_bench(configuration, spec, options, device), before.before
        )
        before.keep(record, made)
        log.info(
            "%s: baseline %.2f s for %d prompts, score %.1f, with shuffled prompts %.1f",
            configuration.slug,
            statistics.median(record.seconds),
            record.images_per_call,
            statistics.mean(record.scores[SCORE]),
            record.shuffled_score,
        )
    bench.save_images(images, made)
    write_record(out, record, job)


def _measured(bench: Bench, before: Before | None = None) -> tuple[Baseline, Images]:
    """The baseline pipeline with the largest batch, of that asked for and its halves, that fits.
    All that is measured beside it has the same."""
    import torch

    from diffaccel.evaluation.baseline import run_baseline
    from diffaccel.evaluation.failures import free_memory

    asked, warnings = bench.spec, list[str]()
    while True:
        try:
            record, images = run_baseline(bench, before)
            return replace(record, warnings=[*warnings, *record.warnings]), images
        except torch.OutOfMemoryError as error:
            size, said = bench.spec.batch_size, str(error).splitlines()[0]
        if size == 1:
            raise ModelError(
                f"model {asked.name!r}: not even one image of {asked.height}x{asked.width} fits on "
                f"{bench.device.name}: lower height and width. {said}"
            )
        free_memory()
        bench = replace(bench, spec=replace(asked, batch_size=size // 2))
        warnings = [
            f"not enough memory for {asked.batch_size} images at once: measured {size // 2} at a "
            "time"
        ]
        log.warning("%s: %s. %s", bench.configuration.slug, warnings[0], said)
