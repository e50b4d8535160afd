"""What can be compared by eye: the answers of searches, with the images that are kept of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.gallery import ANSWERS, Gallery, originals_of
from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.recipes import advice
from diffaccel.recipes.known import Known, Names
from diffaccel.store.jsonio import RecordError, digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """An answer of a search.

    Args:
        names: of its accelerators.
        row: what was measured of it.
        originals: the baseline's images that are there, by the number of their prompt.
        kept: its own that are kept, of those prompts.
    """

    baseline: Baseline
    names: Names
    row: Measurement
    originals: dict[int, Path]
    kept: dict[int, Path]

    @property
    def digest(self) -> str:
        """Of its parameters."""
        return digest(self.row.parameters)

    @property
    def asked(self) -> list[int]:
        """The prompts that are asked about: the first ones. Images that were kept because a metric
        calls them the worst are not, since with them no share would be that of all prompts."""
        return [number for number in sorted(self.kept) if number < ANSWERS]

    @property
    def title(self) -> str:
        """In words: configuration, accelerators, speedup, parameters."""
        title = f"{self.baseline.configuration.title}, {combination(self.names).title}"
        return f"{title}, {self.row.speedup:.2f}x: {in_words(self.row.parameters)}"


@dataclass(frozen=True)
class Choice:
    """Which answers are meant; None or nothing: all.

    Args:
        accelerators: combinations, each as its short names.
    """

    model: str | None = None
    scheduler: str | None = None
    steps: int | None = None
    accelerators: Sequence[Names] = ()

    def takes(self, configuration: Configuration) -> bool:
        """Whether answers of a configuration are meant."""
        return (
            self.model in (None, configuration.model)
            and self.scheduler in (None, configuration.scheduler)
            and self.steps in (None, configuration.steps)
        )


def answers_of(known: Known, folder: Path) -> list[Compared]:
    """The answers of a configuration: what was chosen for a task, the fastest within the limit, and
    the fastest that is clearly within it. Each is there once.

    Args:
        folder: of the platform.
    """
    baseline = known.baseline
    originals = originals_of(baseline, folder)
    gallery = Gallery.beside(folder / "journal", baseline)
    found = []
    for names, row in _rows(known):
        paths = gallery.paths(row.parameters)
        kept = {n: path for n, path in paths.items() if n in originals}
        found.append(Compared(baseline, names, row, originals, kept))
    return found


def _rows(known: Known) -> Iterator[tuple[Names, Measurement]]:
    for names, cell in known.every.items():
        options = known.timed(names)
        if not options:
            continue  # refused, or beside another baseline
        chosen = [each.chosen for each in known.answers(names)]
        clear = advice.fastest_clear(known.baseline, options, cell.loss_limit)
        rows = [row for row in (*chosen, cell.bound, clear) if row is not None]
        for row in {digest(row.parameters): row for row in rows}.values():
            yield names, row


def answers_in(folder: Path, choice: Choice | None = None) -> list[Compared]:
    """The answers in a platform's folder of results, e.g. ``results/cpu``.

    Raises:
        InputError: nothing was searched there, or nothing of what is meant.
    """
    choice, there, found = choice or Choice(), [], []
    for path in sorted((folder / "search").glob("*.json")):
        configuration = Configuration.named(path.stem)
        if configuration is None:
            continue  # sentences that were not understood
        there.append(configuration.slug)
        if not choice.takes(configuration):
            continue
        try:
            found += answers_of(Known.read(folder, configuration), folder)
        except RecordError as error:
            log.warning("left out: %s", error)
    wanted = [
        each for each in found if not choice.accelerators or each.names in choice.accelerators
    ]
    if not wanted:
        raise InputError(_nothing(folder, there, found))
    return wanted


def _nothing(folder: Path, there: Sequence[str], found: Sequence[Compared]) -> str:
    if not there:
        return f"{folder}: nothing was searched there; `diffaccel run` does that"
    if not found:
        return f"{folder}: no answers of that; there is {', '.join(there)}"
    titles = dict.fromkeys(combination(each.names).title for each in found)
    return f"{folder}: no answers with these accelerators; there is {'; '.join(titles)}"
