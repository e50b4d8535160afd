"""Proving the generated scripts: each is loaded, run, and measured again."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from diffaccel import bench as benches
from diffaccel import devices
from diffaccel.errors import InputError
from diffaccel.journal import Journal
from diffaccel.jsonio import digest, to_json
from diffaccel.measure import Bench, Candidate, Generate, MeasureError, crashed, measure, today
from diffaccel.metrics.base import Images
from diffaccel.records import (
    Answer,
    Baseline,
    Measurement,
    Proof,
    Search,
    SearchOptions,
    SettingDict,
    Verdict,
)

log = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Share of the required speedup that the clock may cost a script."""
TOGETHER = 8
"""Scripts at most that are timed in the same rounds; each has its own pipeline in memory."""


@dataclass(frozen=True)
class Script:
    """A script and what it was made from; ``digest`` is of both."""

    path: Path
    answer: Answer
    digest: str

    @classmethod
    def read(cls, path: Path, found: Search) -> Script:
        answer = found.answer(path.stem)
        if answer is None or answer.chosen is None:
            raise MeasureError(f"{path}: the task was not met, so there is nothing to verify")
        return cls(path, answer, digest([path.read_text(encoding="utf-8"), to_json(answer)]))

    @property
    def setting(self) -> SettingDict:
        return self.answer.chosen.setting if self.answer.chosen else {}


def run(
    found: Search, baseline: Baseline, images: Path, scripts: Sequence[Path], journal: Path
) -> Proof:
    """Measures the scripts of a setup against the plain pipeline, by the same rules as the search
    did. What the journal has of the same script and the same answer is not measured again.

    Args:
        scripts: generated files, each named by its task.

    Raises:
        InputError: a script's task was not met, or the baseline was measured otherwise than now.
    """
    rows = Journal(journal, baseline.digest, Verdict)
    known = {verdict.id: verdict for verdict in rows.rows()}
    read = [Script.read(path, found) for path in scripts]
    missing = [
        script
        for script in read
        if script.path.stem not in known or known[script.path.stem].script != script.digest
    ]
    together = min(TOGETHER, baseline.spec.jobs_per_gpu)
    with contextlib.ExitStack() as stack:
        prover = Prover(stack, baseline, images)
        for start in range(0, len(missing), together):
            group = missing[start : start + together]
            for script, again in zip(group, prover.measure(group), strict=True):
                verdict = _verdict(script, again, found.cells[0].search)
                rows.append(verdict)
                known[verdict.id] = verdict
                _say(verdict)
    return Proof(baseline.setup, [known[script.path.stem] for script in read])


class Prover:
    """Loads scripts and measures them. Device and metrics are taken with the first, and kept
    until the stack is closed."""

    def __init__(self, stack: contextlib.ExitStack, baseline: Baseline, images: Path) -> None:
        self._stack, self._baseline, self._folder = stack, baseline, images
        self._bench: Bench | None = None

    @functools.cached_property
    def _device(self) -> devices.Device:
        jobs = self._baseline.spec.jobs_per_gpu
        device = self._stack.enter_context(devices.hold_device(jobs))
        self._stack.enter_context(device.beside())
        benches.be_quiet()
        benches.use_threads(self._baseline.spec.threads)
        return device

    @functools.cached_property
    def _references(self) -> Images:
        return benches.load_images(self._folder, self._baseline)

    def measure(self, scripts: Sequence[Script]) -> list[Measurement]:
        """Scripts, measured in the same rounds; of one that cannot be loaded, why."""
        loaded, failed = [], {}
        for script in scripts:
            try:
                loaded.append(self._load(script))
            except InputError:
                raise
            except Exception as error:
                log.exception("%s", script.path)
                reason = f"{type(error).__name__}: {error}"
                failed[script.digest] = crashed(script.setting, reason)
        rows = iter(self._measured(loaded) if loaded else [])
        return [failed.get(script.digest) or next(rows) for script in scripts]

    def _load(self, script: Script) -> tuple[Bench, Candidate]:
        """A script's own pipeline, and the script as it is called."""
        baseline, device = self._baseline, self._device
        module = load_script(script.path)
        with device.beside():
            pipe = module.load_pipeline(device=device.name)
        if self._bench is None:
            self._bench = benches.open_bench(
                baseline.setup, baseline.spec, baseline.options, device, pipe=pipe
            )
        pipe.set_progress_bar_config(disable=True)
        own = replace(self._bench, pipe=pipe)
        benches.check_same(own, baseline)

        @contextlib.contextmanager
        def applied() -> Iterator[Generate]:
            yield lambda prompts, seeds: module.generate(pipe, prompts, seeds)

        chosen = script.answer.chosen
        return own, Candidate(script.setting, applied, prompts=chosen.prompts if chosen else None)

    def _measured(self, loaded: Sequence[tuple[Bench, Candidate]]) -> list[Measurement]:
        """The baseline of the pairs is the first script's pipeline, outside of what the script puts
        on."""
        own, _ = loaded[0]
        candidates = [candidate for _, candidate in loaded]
        return measure(own, self._baseline, self._references, candidates)


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


def _verdict(script: Script, again: Measurement, options: SearchOptions) -> Verdict:
    task, chosen = script.answer.task, script.answer.chosen
    if chosen is None or task.required is None:
        raise MeasureError(f"task {task.id} was not met, so there is nothing to verify")
    reasons = []
    if again.failure is not None:
        reasons.append(again.failure)
    else:
        if again.speedup < task.required * (1 - TOLERANCE):
            reasons.append(f"speedup {again.speedup:.2f}x, required {task.required}x")
        if (loss := options.decisive(again)) >= task.max_loss:
            end = "" if loss == again.loss else "upper end of the "
            reasons.append(f"{end}loss {loss:.4f}, limit {task.max_loss}")
    same = again.scores == chosen.scores if again.scores and chosen.scores else None
    return Verdict(
        id=task.id,
        script=script.digest,
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
