"""Proving the generated scripts: each is loaded, run, and measured again."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from diffaccel import bench as benches
from diffaccel import devices
from diffaccel.devices import Device
from diffaccel.journal import Journal
from diffaccel.jsonio import digest, to_json
from diffaccel.measure import Candidate, Generate, MeasureError, measure, today
from diffaccel.metrics.base import Images
from diffaccel.records import Answer, Baseline, Measurement, Proof, Search, Verdict

log = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Share of the required speedup that the clock may cost a script."""


def run(
    found: Search, baseline: Baseline, images: Path, scripts: Sequence[Path], journal: Path
) -> Proof:
    """Measures the scripts of a setup against the plain pipeline, by the same rules as the search
    did. What the journal has of the same script and the same answer is not measured again.

    Args:
        scripts: generated files, each named by its task.

    Raises:
        InputError: a script's task was not met.
    """
    rows = Journal(journal, baseline.digest, Verdict)
    kept = {verdict.id: verdict for verdict in rows.rows()}
    verdicts = []
    with contextlib.ExitStack() as stack:
        # Taken when the first script must be measured, and kept until the end.
        jobs = baseline.spec.jobs_per_gpu
        held = functools.cache(lambda: stack.enter_context(devices.hold_device(jobs)))
        references = functools.cache(lambda: benches.load_images(images, baseline))
        for path in scripts:
            answer = _answer(found, path)
            # Of a script and of what it was made from.
            source = digest([path.read_text(encoding="utf-8"), to_json(answer)])
            verdict = kept.get(path.stem)
            if verdict is None or verdict.script != source:
                again = _measured(answer, baseline, references(), path, held())
                verdict = _verdict(answer, source, again)
                rows.append(verdict)
            _say(verdict)
            verdicts.append(verdict)
    return Proof(baseline.setup, verdicts)


def _answer(found: Search, script: Path) -> Answer:
    answer = found.answer(script.stem)
    if answer is None or answer.chosen is None:
        raise MeasureError(f"{script}: the task was not met, so there is nothing to verify")
    return answer


def _measured(
    answer: Answer, baseline: Baseline, references: Images, script: Path, device: Device
) -> Measurement:
    """A script, measured. It loads its own pipeline; the baseline of the pairs is that same
    pipeline, outside of what the script puts on."""
    benches.be_quiet()
    benches.use_threads(baseline.spec.threads)
    module = load_script(script)
    with device.beside():
        pipe = module.load_pipeline(device=device.name)
    own = benches.open_bench(baseline.setup, baseline.spec, baseline.options, device, pipe=pipe)
    benches.check_same(own, baseline)

    @contextlib.contextmanager
    def applied() -> Iterator[Generate]:
        yield lambda prompts, seeds: module.generate(own.pipe, prompts, seeds)

    setting = answer.chosen.setting if answer.chosen else {}
    return measure(own, baseline, references, [Candidate(setting, applied)])[0]


def _say(verdict: Verdict) -> None:
    log.info(
        "%s: %.2fx (required %sx), loss %+.4f: %s",
        verdict.id,
        verdict.speedup,
        verdict.required,
        verdict.loss,
        "ok" if verdict.ok else verdict.reason,
    )


def load_script(script: Path) -> ModuleType:
    """A generated script as a module; its command line does not run."""
    spec = importlib.util.spec_from_file_location("generated_script", script)
    if spec is None or spec.loader is None:
        raise MeasureError(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(answer: Answer, script: str, again: Measurement) -> Verdict:
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
        script=script,
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
