"""Measuring the baseline pipeline of a configuration: its images, their scores, and the seconds of
its calls. What was measured is kept by `diffaccel.evaluation.kept_baselines`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.calls import Bench, Called, MeasureError
from diffaccel.evaluation.records import Baseline, Usage
from diffaccel.evaluation.scores import blank, image_digests, not_numbers
from diffaccel.experiment.prompts import Prompt, as_line, have_negatives, negatives_of
from diffaccel.plugins.metrics import SCORE, identities
from diffaccel.plugins.metrics.base import Images
from diffaccel.store.jsonio import today

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaselineRun:
    """What measuring the baseline pipeline gives.

    Args:
        metrics: what determined the values of each metric besides the usual ones, by name.
    """

    images: Images
    scores: dict[str, list[float]]
    shuffled_scores: list[float]
    seconds: list[float]
    warnings: list[str]
    usage: Usage | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)


Before = Callable[[str, Sequence[Prompt]], BaselineRun | None]
"""What is known of the first of some prompts, by the digest of all else."""


def measure_baseline(bench: Bench, before: BaselineRun | None = None) -> BaselineRun:
    """Images, scores and times of the baseline pipeline over the prompt set, after a warm-up call.

    Args:
        before: what was measured of the first prompts; these are not generated again.

    Raises:
        MeasureError: all images are blank, or scores are no numbers.
    """
    first = len(before.images) if before else 0
    made = _generated(bench, first)
    images = np.concatenate([*([before.images] if before else []), *(each.images for each in made)])
    warnings = [*_cut_prompts(bench), *_blank_baseline(bench, images)]
    with bench.device.shared():
        scores = _scores(bench, images, before)
        shuffled = _shuffled_scores(bench, images)
    if reason := not_numbers({**scores, "shuffled": shuffled}):
        raise MeasureError(
            f"{bench.configuration.slug}: the baseline pipeline's scores are {reason}: check the "
            f"model, its dtype ({bench.spec.dtype}) and the scorer {bench.spec.scorer}"
        )
    full = min(bench.spec.batch_size, len(bench.prompts))
    seconds = [each.seconds for each in made if len(each.images) == full]
    usage = Usage.of([*(each.usage for each in made), before.usage if before else None])
    known = before.seconds if before else seconds
    return BaselineRun(images, scores, shuffled, known, warnings, usage and usage.without_energy())


def _generated(bench: Bench, first: int) -> list[Called]:
    """The baseline pipeline's calls for the prompts from the first on."""
    batches = bench.batches(first)
    if batches:
        bench.call(bench.baseline, bench.batches()[0])
    with bench.device.exclusive():
        return [bench.call(bench.baseline, batch) for batch in batches]


def _cut_prompts(bench: Bench) -> list[str]:
    """What to say where a text encoder of the pipeline does not take all tokens of a prompt."""
    tokenizers = [
        tokenizer
        for name in ("tokenizer", "tokenizer_2")
        if (tokenizer := getattr(bench.pipe, name, None)) is not None
    ]
    long = [
        any(
            len(each(prompt, verbose=False).input_ids) > each.model_max_length
            for each in tokenizers
        )
        for prompt in bench.texts
    ]
    if not any(long):
        return []
    limit = min(each.model_max_length for each in tokenizers)
    said = (
        f"{sum(long)} of {len(long)} prompts are longer than the {limit} tokens that the "
        "pipeline's text encoder takes: what comes after them has no effect on the images"
    )
    log.warning("%s: %s", bench.configuration.slug, said)
    return [said]


def _blank_baseline(bench: Bench, images: Images) -> list[str]:
    """What to say where images of the baseline pipeline are blank.

    Raises:
        MeasureError: all are, so that nothing could be compared with them.
    """
    empty = blank(images)
    if empty.all():
        raise MeasureError(
            f"{bench.configuration.slug}: all {len(images)} images of the baseline pipeline are "
            "blank (one colour each), so nothing can be compared with them. Numbers may have "
            f"overflowed: try another dtype (now {bench.spec.dtype}) or `vae`, and check the "
            "model's weights"
        )
    if not empty.any():
        return []
    some = [repr(bench.texts[index]) for index in np.flatnonzero(empty)]
    listed = ", ".join(some[:3]) + (" and others" if len(some) > 3 else "")
    said = (
        f"{len(some)} of {len(images)} images are blank: of the prompts {listed}; a candidate may "
        "be blank there, too"
    )
    log.warning("%s: %s", bench.configuration.slug, said)
    return [said]


def _scores(bench: Bench, images: Images, before: BaselineRun | None) -> dict[str, list[float]]:
    """Of each image, by metric. The images of before are only scored by metrics that were added
    since, or are others now."""
    first = len(before.images) if before else 0
    new = bench.score(images[first:], None, first) if len(images) > first else {}
    if before is None:
        return new
    now = identities(bench.spec.metrics)
    known = {
        name: values
        for name, values in before.scores.items()
        if name in bench.metrics and before.metrics.get(name) == now.get(name)
    }
    old = known | bench.score(before.images, None, known=known)
    return {name: old[name] + new.get(name, []) for name in new or old}


def _shuffled_scores(bench: Bench, images: Images) -> list[float]:
    """Of each image with the prompt of the image before it."""
    others = bench.texts[-1:] + bench.texts[:-1]
    return bench.metrics[SCORE](images, others, None)


def without_effect(bench: Bench) -> list[str]:
    """What to say where something that was asked for changes no image."""
    spec, said = bench.spec, list[str]()
    asked = {
        "negative prompts": spec.negative_prompt or have_negatives(bench.prompts),
        "guidance_rescale": spec.guidance_rescale,
    }
    idle = [name for name, given in asked.items() if given]
    if idle and not bench.pipeline.guided:
        have = "have" if len(idle) > 1 or idle[0].endswith("s") else "has"
        said.append(
            f"guidance is off (guidance_scale {spec.guidance_scale}), so that "
            f"{' and '.join(idle)} {have} no effect"
        )
    negatives = negatives_of(bench.prompts, spec.negative_prompt) or []
    for word in spec.textual_inversion:
        if not any(word.token in text for text in (*bench.texts, *negatives)):
            said.append(
                f"no prompt and no negative prompt has the token {word.token!r} of the textual "
                "inversion"
            )
    for each in said:
        log.warning("%s: %s", bench.configuration.slug, each)
    return said


def _cropped(bench: Bench) -> list[str]:
    """What to say where the images of prompts have other proportions than those that are made."""
    from PIL import Image, ImageOps

    spec = bench.spec
    if not spec.inputs_taken:
        return []
    found = []
    for line in map(as_line, bench.prompts):
        with Image.open(Path(str(spec.inputs), str(line.image))) as image:
            width, height = ImageOps.exif_transpose(image).size
        found.append(width * spec.height != height * spec.width)
    if not any(found):
        return []
    said = (
        f"{sum(found)} of {len(found)} images that prompts come with are cropped at their centre "
        f"to the proportions of {spec.width}x{spec.height} pixels"
    )
    log.warning("%s: %s", bench.configuration.slug, said)
    return [said]


def run_baseline(bench: Bench, before: Before | None = None) -> tuple[Baseline, Images]:
    """Measures the baseline pipeline; its record and its images."""
    where = benches.environment(bench.pipe)
    determined_by = benches.fingerprint_of(bench, where)
    known = before(benches.shared(determined_by), bench.prompts) if before else None
    run = measure_baseline(bench, known)
    record = Baseline(
        configuration=bench.configuration,
        spec=bench.spec,
        options=bench.options,
        fingerprint=determined_by,
        digest=benches.shared(determined_by),
        environment=where,
        pipeline=bench.pipeline,
        prompts=list(bench.prompts),
        scores=run.scores,
        shuffled_score=float(np.mean(run.shuffled_scores)),
        shuffled_scores=run.shuffled_scores,
        seconds=run.seconds,
        image_digests=image_digests(run.images),
        date=today(),
        warnings=[*without_effect(bench), *_cropped(bench), *run.warnings],
        usage=run.usage,
        metrics=identities(bench.spec.metrics) or None,
    )
    return record, run.images
