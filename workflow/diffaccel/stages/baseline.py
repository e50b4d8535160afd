"""Measuring the unaccelerated pipeline of a setup."""

from __future__ import annotations

import logging
import statistics
from pathlib import Path

from diffaccel import devices
from diffaccel.grid import Setup
from diffaccel.jsonio import write_record
from diffaccel.metrics import SCORE
from diffaccel.models import ModelError
from diffaccel.records import MeasureOptions, ModelSpec

log = logging.getLogger(__name__)


def run(
    setup: Setup, spec: ModelSpec, options: MeasureOptions, platform: str, out: Path, images: Path
) -> None:
    """Writes the record and the images of a baseline.

    Raises:
        InputError: this is other hardware than the results are for, the model is untrained, or its
            images do not fit.
    """
    if spec.untrained:
        raise ModelError(
            f"model {spec.name!r} is untrained: it draws noise, whose score means nothing, so it "
            "has no baseline and no bound; `diffaccel speed` times it"
        )
    with devices.hold_device(spec.jobs_per_gpu) as device:
        devices.check_platform(platform)
        import torch

        from diffaccel import bench

        try:
            record, made = bench.run_baseline(bench.open_bench(setup, spec, options, device))
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"model {spec.name!r}: {spec.batch_size} images of {spec.height}x{spec.width} at "
                f"once do not fit on {device.name}: lower batch_size. {str(error).splitlines()[0]}"
            ) from None
        log.info(
            "%s: baseline %.2f s for %d prompts, score %.1f, with shuffled prompts %.1f",
            setup.slug,
            statistics.median(record.seconds),
            spec.batch_size,
            statistics.mean(record.scores[SCORE]),
            record.shuffled_score,
        )
    bench.save_images(images, made)
    write_record(out, record)
