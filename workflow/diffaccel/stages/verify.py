"""Proving a generated script: it is loaded in this process of its own, run, and measured again."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from diffaccel import bench as benches
from diffaccel import devices
from diffaccel.measure import Generate, MeasureError, measure, today
from diffaccel.records import Answer, Baseline, Measurement, Verdict

log = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Share of the required speedup that the clock may cost a script."""


def run(answer: Answer, baseline: Baseline, images: Path, script: Path) -> Verdict:
    """Measures a script against the plain pipeline by the same rules as the search did.

    The script loads its own pipeline; the baseline of the pairs is that same pipeline, outside of
    what the script puts on.
    """
    with devices.hold_device() as device:
        benches.be_quiet()
        benches.use_threads(baseline.spec.threads)
        module = load_script(script)
        pipe = module.load_pipeline(device=device)
        own = benches.open_bench(baseline.setup, baseline.spec, baseline.options, device, pipe=pipe)
        benches.check_same(own, baseline)

        @contextlib.contextmanager
        def applied() -> Iterator[Generate]:
            yield lambda prompts, seeds: module.generate(own.pipe, prompts, seeds)

        references = benches.load_images(images, baseline)
        setting = answer.chosen.setting if answer.chosen else {}
        verdict = _verdict(answer, measure(own, baseline, references, applied, setting))
    log.info(
        "%s: %.2fx (required %sx), loss %+.4f: %s",
        verdict.id,
        verdict.speedup,
        verdict.required,
        verdict.loss,
        "ok" if verdict.ok else verdict.reason,
    )
    return verdict


def load_script(script: Path) -> ModuleType:
    """A generated script as a module; its command line does not run."""
    spec = importlib.util.spec_from_file_location("generated_script", script)
    if spec is None or spec.loader is None:
        raise MeasureError(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(answer: Answer, again: Measurement) -> Verdict:
    task, chosen = answer.task, answer.chosen
    if chosen is None or task.required is None:
        raise MeasureError(f"task {task.id} was not met, so there is nothing to verify")
    reasons = []
    if again.failure is not None:
        reasons.append(again.failure)
    else:
        if again.speedup < task.required * (1 - TOLERANCE):
            reasons.append(f"speedup {again.speedup:.2f}x, required {task.required}x")
        if again.loss >= task.max_loss:
            reasons.append(f"loss {again.loss:.4f}, limit {task.max_loss}")
    same = again.scores == chosen.scores if again.scores and chosen.scores else None
    return Verdict(
        id=task.id,
        ok=not reasons,
        reason="; ".join(reasons),
        required=task.required,
        max_loss=task.max_loss,
        promised_speedup=chosen.speedup,
        promised_loss=chosen.loss,
        speedup=again.speedup,
        loss=again.loss,
        loss_interval=again.loss_interval,
        timing=again.timing,
        means=again.means,
        same_scores=same,
        date=today(),
    )
