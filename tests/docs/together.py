"""The tables of docs/reference/what-goes-together.md: what each accelerator says of each sampler,
pipeline and other accelerator.

``python -m tests.docs.together`` writes them; part of ``make pages``. A test keeps them in step.
What is said to work is held by the conformance suite.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.markdown import table
from diffaccel.plugins.accelerators import ACCELERATORS, Combination, PipelineSpec
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, class_for
from diffaccel.plugins.schedulers import (
    SCHEDULERS,
    made,
    options_for,
    own_config,
    scheduler_named,
)
from tests.docs.made import Parts, write
from tests.docs.pages import DOCS

PAGE = DOCS / "reference" / "what-goes-together.md"
STEPS = 8
YES = "yes"
MEMBERS = sorted(ACCELERATORS.values(), key=lambda each: each.order)
Change = Callable[[PipelineSpec], PipelineSpec]


def _used_for(task: str, one: PipelineSpec) -> PipelineSpec:
    return replace(one, pipeline_class=class_for(task, one.pipeline_class))


SITUATIONS: Mapping[str, Change] = {
    "`guidance_scale` of 1 or less, as of Turbo and Lightning": lambda one: replace(
        one, guided=False
    ),
    "one step": lambda one: replace(one, steps=1),
    "a U-Net without a middle block": lambda one: replace(one, middle_block=False),
    "a CPU in place of a GPU": lambda one: replace(one, device="cpu"),
    "latents of 1x16": lambda one: replace(one, generated=(1, 16)),
    **{f"`task: {name}`": functools.partial(_used_for, name) for name in PIPELINE_TASKS},
}
"""What a pipeline may have, and what it makes of that of a family."""


@dataclass
class Notes:
    """Reasons, each with its number below a table."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, reason: str) -> int:
        return self.numbers.setdefault(reason, len(self.numbers) + 1)

    def lines(self) -> str:
        return "".join(f"{number}. {reason}\n" for reason, number in self.numbers.items())


def pipelines(name: str | None = None) -> dict[str, PipelineSpec]:
    """Of each family, on a GPU, with a sampler."""
    return {family: _pipeline(family, name) for family in FAMILIES}


@functools.cache
def _tiny(family: str) -> Any:
    return tiny.FAMILIES[family](0)


def _pipeline(family: str, name: str | None) -> PipelineSpec:
    pipe = copy.copy(_tiny(family))
    if name is not None:
        spec, own = scheduler_named(name), own_config(pipe.scheduler)
        pipe.scheduler = made(spec, own, options_for(spec, own), STEPS)
    found = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=7.5)
    return replace(found, device="cuda")


def cell(chosen: Combination, found: Mapping[str, PipelineSpec], notes: Notes) -> str:
    """What goes, for which families; the number of the reason where it does not."""
    reasons: dict[str, list[str]] = {}
    for family, pipeline in found.items():
        ok, reason = chosen.supports(pipeline)
        reasons.setdefault("" if ok else reason, []).append(family)
    if len(reasons) == 1:
        (reason,) = reasons
        return f"no ({notes.number(reason)})" if reason else YES
    return "; ".join(
        f"{', '.join(families)}: {f'no ({notes.number(reason)})' if reason else YES}"
        for reason, families in reasons.items()
    )


def _shown(head: Sequence[str], rows: Iterable[Sequence[str]], notes: Notes) -> str:
    return f"{table(head, rows, left=len(head))}\n\n{notes.lines()}"


def _alone(found: Mapping[str, PipelineSpec], notes: Notes) -> list[str]:
    return [cell(Combination((member,)), found, notes) for member in MEMBERS]


def samplers() -> str:
    """Samplers with accelerators."""
    notes = Notes()
    rows = [[f"`{name}`", *_alone(pipelines(name), notes)] for name in SCHEDULERS]
    head = ["sampler", *(member.title for member in MEMBERS)]
    return _shown(head, rows, notes)


def situations() -> str:
    """What pipelines may have, with accelerators."""
    notes, usual = Notes(), pipelines()
    rows = []
    for said, change in SITUATIONS.items():
        found = {family: change(pipeline) for family, pipeline in usual.items()}
        rows.append([said, *_alone(found, notes)])
    head = ["pipeline", *(member.title for member in MEMBERS)]
    return _shown(head, rows, notes)


def pairs() -> str:
    """Accelerators with each other."""
    notes, usual = Notes(), pipelines()
    rows = [[one.title, *(YES for _ in MEMBERS)] for one in MEMBERS]
    for (row, one), (column, other) in itertools.combinations(enumerate(MEMBERS), 2):
        said = cell(Combination.of([one, other]), usual, notes)
        rows[row][column + 1] = rows[column][row + 1] = said
    for place in range(len(MEMBERS)):
        rows[place][place + 1] = ""
    return _shown(["", *(member.title for member in MEMBERS)], rows, notes)


PARTS: Parts = {"samplers": samplers, "pipelines": situations, "pairs": pairs}

if __name__ == "__main__":
    write(PAGE, PARTS)
