"""Generating the images of answers that are not kept: of those without a script, and of those that
were verified before images were kept."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.calls import Bench, Candidate
from diffaccel.evaluation.candidates import evaluate
from diffaccel.evaluation.gallery import ANSWERS, Gallery
from diffaccel.plugins.metrics.base import Images
from diffaccel.report.blind.answers import Compared

log = logging.getLogger(__name__)


def lacking(answers: Sequence[Compared]) -> list[Compared]:
    """Those of which fewer images are kept than would be asked about."""
    return [
        each
        for each in answers
        if len(each.asked) < min(ANSWERS, each.row.prompts, len(each.originals))
    ]


def generate(answers: Sequence[Compared], folder: Path) -> None:
    """Generates the images of answers as their evaluation did, and keeps some, as a verification
    does. Each model is loaded once.

    Args:
        folder: of the platform.

    Raises:
        InputError: this machine is another platform, or model, prompts or versions are others than
            those that were measured with.
    """
    for baseline in {each.baseline.whole: each.baseline for each in answers}.values():
        own = [each for each in answers if each.baseline.whole == baseline.whole]
        gallery = Gallery.beside(folder / "journal", baseline)
        images = folder / "baseline" / baseline.configuration.slug
        with contextlib.ExitStack() as stack:
            bench, references = benches.open_again(stack, baseline, images)
            for number, each in enumerate(own, 1):
                log.info("generating %d of %d: %s", number, len(own), each.title)
                _keep(each, bench, references, gallery)


def _keep(answer: Compared, bench: Bench, references: Images, gallery: Gallery) -> None:
    parameters, images = answer.row.parameters, list[Images]()
    applied = functools.partial(bench.accelerated, parameters)
    candidate = Candidate(parameters, applied, prompts=answer.row.prompts)
    found = evaluate(bench, answer.baseline, references, candidate, keep=images.append)
    if found.failure is not None or not images:
        log.warning("no images of %s: %s", answer.title, found.failure)
        return
    gallery.keep_answer(answer.baseline, found, images[0])
