"""The benchmark's own scripts: for each prompt that can be met, one that meets it.

They are rendered from what was measured; nothing is measured for them. A prompt without a script is
listed with the reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from diffaccel.benchmark import prompt_files
from diffaccel.benchmark.prompt_set import Prompt
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.tasks import Request
from diffaccel.machine import devices
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.space import ParametersDict
from diffaccel.recipes import scripts as code
from diffaccel.recipes.known import Known, Names, Option, searched
from diffaccel.recipes.recipe import recipe_of
from diffaccel.registry import suggest
from diffaccel.search import pareto
from diffaccel.store.jsonio import RecordError, write_record, write_text

SCRIPTS, RECORD = "gt_code", "ground_truth.json"


@dataclass(frozen=True)
class Truth:
    """What is known of one prompt.

    Args:
        id: of the prompt; the script is ``gt_code/<id>.py``.
        status: ``made``; ``infeasible`` where nothing that was measured does it; ``unmeasured``
            where what it asks for was not searched.
        parameters: of the script; empty for the baseline pipeline.
        speedup, loss: as they were measured.
    """

    id: str
    category: int
    status: Literal["made", "infeasible", "unmeasured"]
    reason: str = ""
    parameters: ParametersDict = dataclasses.field(default_factory=dict)
    speedup: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Truths:
    """All prompts of the benchmark: a file."""

    platform: str
    truths: list[Truth]


class Unmet(Exception):
    """A prompt that has no script; says which status it has, and why."""

    def __init__(self, status: Literal["infeasible", "unmeasured"], reason: str) -> None:
        super().__init__(reason)
        self.status = status


def write_for(experiment: Experiment, prompts: Path, record: Path) -> str:
    """Writes what an experiment's results and models give to a file of prompts, beside the record;
    says how much that is."""
    results, listed = Path(experiment.config.results), prompt_files.read(prompts)
    return write(record.parent, listed, results, experiment.platform, experiment.specs)


def write(
    folder: Path,
    prompts: Iterable[Prompt],
    results: Path,
    platform: str,
    specs: Mapping[str, ModelSpec],
) -> str:
    """Writes all scripts and the list of them; says how many there are.

    Args:
        folder: of the benchmark.
        results: of all platforms.
        platform: that prompts are for which name none.
        specs: models by name, for baseline pipelines of which nothing was measured.
    """
    there = {
        (devices.slug(on), configuration): results / on for on, configuration in searched(results)
    }

    @cache
    def known(configuration: Configuration, on: str) -> Known | None:
        folder = there.get((devices.slug(on), configuration))
        with contextlib.suppress(RecordError):  # of another version, or not whole: as if not there
            return Known.read(folder, configuration) if folder else None
        return None

    truths = []
    for prompt in prompts:
        found = known(prompt.request.configuration, prompt.request.platform or platform)
        truth, source = _made(prompt, found, specs)
        truths.append(truth)
        if source is not None:
            write_text(folder / SCRIPTS / f"{prompt.id}.py", source)
    code.keep_only(folder / SCRIPTS, {each.id for each in truths if each.status == "made"})
    write_record(folder / RECORD, Truths(platform, truths))
    counts = Counter((truth.category, truth.status) for truth in truths)
    listed = (f"{count} {status} of category {n}" for (n, status), count in sorted(counts.items()))
    return f"{folder / SCRIPTS}: {', '.join(listed)}"


def _made(
    prompt: Prompt, known: Known | None, specs: Mapping[str, ModelSpec]
) -> tuple[Truth, str | None]:
    """What is known of a prompt, and its script if it has one."""
    truth = Truth(prompt.id, int(prompt.category), "made")
    model = prompt.request.model
    spec = known.baseline.spec if known else specs.get(model)
    if spec is not None and spec.task is not None:
        reason = f"{model} has the task {spec.task} here, and the prompt asks for text-to-image"
        return dataclasses.replace(truth, status="unmeasured", reason=reason), None
    try:
        chosen = best(prompt.request, known)
    except Unmet as unmet:
        return dataclasses.replace(truth, status=unmet.status, reason=str(unmet)), None
    if known is not None and chosen is not None:
        truth = dataclasses.replace(
            truth, parameters=chosen.parameters, speedup=chosen.speedup, loss=chosen.loss
        )
        return truth, code.accelerated(
            known.baseline, recipe_of(known.baseline, chosen), prompt.text
        )
    if spec is None:
        reason = f"unknown model {model!r}: {suggest(model, specs)}"
        return dataclasses.replace(truth, status="unmeasured", reason=reason), None
    return truth, code.baseline_script(spec, prompt.request.configuration, prompt.text)


def best(request: Request, known: Known | None) -> Measurement | None:
    """The measurement that does what is asked with the least loss; without a speedup or a latency,
    the fastest within the loss limit. None where the baseline pipeline does it.

    Raises:
        Unmet: nothing that was measured does it.
    """
    if not request.accelerators and request.latency_s is None:
        return None
    if known is None:
        on = f" on {request.platform}" if request.platform else ""
        raise Unmet("unmeasured", f"{request.configuration.slug} was not searched{on}")
    limit = request.max_loss or known.loss_limit
    required = request.speedup
    if request.latency_s is not None:
        required = known.baseline.seconds_per_image / request.latency_s
        if required <= 1 and not request.accelerators:
            return None
    options = _options(request.accelerators, known)
    if required is None:
        chosen = pareto.bound(options, limit)
    else:
        chosen = pareto.meet(options, required, limit)
    if chosen is None:
        raise Unmet("infeasible", _reason(options, required, limit))
    return chosen.measured


def _options(names: Names, known: Known) -> list[Option]:
    """Of a cell, or of all where none is asked for.

    Raises:
        Unmet: the cell was not searched, or cannot be.
    """
    if not names:
        return [each for cell in known.cells for each in known.options(cell)]
    title = combination(names).title
    if names not in known.cells:
        slug = known.baseline.configuration.slug
        raise Unmet("unmeasured", f"{slug} was not searched with {title}")
    if known.cells[names].status == "refused":
        raise Unmet("infeasible", known.cells[names].reason)
    return known.options(names)


def _reason(options: list[Option], required: float | None, limit: float) -> str:
    lacking = f"reaches {required:.2f}x with" if required else "has"
    near = pareto.nearest(options, required or 1.0, limit)
    nearest = f"; nearest: {near.speedup:.2f}x, loss {near.measured.loss:+.1%}" if near else ""
    return f"nothing that was measured {lacking} a loss below {limit:g}{nearest}"
