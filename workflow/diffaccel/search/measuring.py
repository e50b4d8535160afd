"""Measures the candidates of a configuration on the device, in one process: the model is loaded
once, and what is timed shares rounds beside one baseline."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.evaluation import keys
from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.gallery import Gallery
from diffaccel.evaluation.records import Baseline, Evaluation, SpeedRow
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.options import SearchOptions
from diffaccel.machine.watch import Watch
from diffaccel.plugins.space import ParametersDict
from diffaccel.search.cell import CellSearch
from diffaccel.search.history import CellHistory
from diffaccel.search.requests import EvaluationRequest, Measurer, Wanted
from diffaccel.search.timings import MeasuredSpeeds
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from diffaccel.evaluation.calls import Bench, Candidate
    from diffaccel.plugins.metrics.base import Images

PATIENCE = 10.0
"""How many times as long as the baseline pipeline's a call may take at least."""


class DeviceMeasurer:
    """Measures on the device, which is taken, and the model loaded, when the first candidate must
    be measured; both are kept until the stack is closed.

    Args:
        images: folder of the baseline's.
        gallery: gets some of those that are evaluated.
        watch: is told of calls.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        baseline: Baseline,
        images: Path,
        gallery: Gallery,
        watch: Watch,
    ) -> None:
        self._stack, self._baseline, self._folder = stack, baseline, images
        self._gallery, self._watch = gallery, watch
        self._warm: set[str] = set()

    @functools.cached_property
    def _opened(self) -> tuple[Bench, Images]:
        from diffaccel.evaluation import bench

        made, images = bench.open_again(self._stack, self._baseline, self._folder, self._watch)
        made.call(made.baseline, made.batches()[0])  # warm-up
        return made, images

    def _candidate(
        self, parameters: ParametersDict, prompts: int | None = None, short: bool = False
    ) -> Candidate:
        from diffaccel.evaluation.calls import Candidate

        made, _ = self._opened
        applied = functools.partial(made.accelerated, parameters)
        warm = digest(parameters) in self._warm
        return Candidate(parameters, applied, warm, prompts, short=short)

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        from diffaccel.evaluation.candidates import evaluate

        made, references = self._opened
        self._warm.update(digest(request.parameters) for request in wanted)
        return [
            evaluate(
                made,
                self._baseline,
                references,
                self._candidate(request.parameters, request.prompts),
                request.before,
                functools.partial(self._gallery.keep, request.parameters),
            )
            for request in wanted
        ]

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        from diffaccel.evaluation.timing import time_candidates

        made, references = self._opened
        candidates = [self._candidate(s, short=digest(s) in short) for _, s in wanted]
        return time_candidates(made, candidates, references)


@contextlib.contextmanager
def opened(
    cells: Sequence[Cell],
    baseline: Baseline,
    images: Path,
    journals: Path,
    options: SearchOptions,
    watch: Watch | None = None,
    aside: Cell | None = None,
    asked: Sequence[Limit] = (),
) -> Iterator[tuple[list[CellSearch], Measurer]]:
    """The cells of a configuration with what is known of them, and what measures more.

    Args:
        journals: folder of the cells' journals.
        watch: who is told of calls, if anybody.
        aside: the one of them that the others are only compared with.
        asked: limits that tasks ask for besides those of the options.
    """
    watch = (watch or Watch()).within(call_seconds(baseline, options))
    speeds = MeasuredSpeeds(baseline, keys.timed(journals, baseline))
    siblings: dict[tuple[str, ...], CellSearch] = {}
    budget = Budget(options.budget)
    for cell in cells:
        evaluated = keys.evaluated(journals, baseline, cell.slug)
        limits = tuple(dict.fromkeys((*options.limits, *asked)))
        history = CellHistory(cell, baseline, evaluated, speeds, limits)
        siblings[cell.accelerators] = CellSearch(history, options, siblings, budget, cell == aside)
    with contextlib.ExitStack() as stack:
        gallery = Gallery.beside(journals, baseline)
        yield list(siblings.values()), DeviceMeasurer(stack, baseline, images, gallery, watch)


def call_seconds(baseline: Baseline, options: SearchOptions) -> float:
    """How long a call may take before it counts as hung."""
    return max(options.call_seconds, PATIENCE * statistics.median(baseline.seconds))
