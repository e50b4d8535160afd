"""What a person looks at: of each answer the images that its metrics call the worst, beside the
baseline's, and what people said who compared its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffaccel.evaluation.worst import in_order, worst
from diffaccel.plugins.space import ParametersDict
from diffaccel.recipes.known import Known
from diffaccel.report.blind import Compared, Preference, answers_of, preferences
from diffaccel.report.page.album import Album
from diffaccel.report.page.views import WorstImages, WorstPair
from diffaccel.search.records import CellResult
from diffaccel.store.jsonio import digest

SHOWN = 3
"""Images of an answer and a metric."""
USED, ANSWER, METRIC, LAST = range(4)
"""Which images stay where there is no room for all: of each answer that is clearly within the
limit, the worst by the first metric; of each answer; by each metric; the others."""


@dataclass(frozen=True)
class Eyes:
    """What there is of a configuration.

    Args:
        answers: by the hash of their parameters.
        said: what people said, by the same.
        album: of the page, for these images.
        texts: gets the prompts of images that go into it.
    """

    answers: Mapping[str, Compared]
    said: Mapping[str, Preference]
    album: Album
    texts: dict[int, str]

    @classmethod
    def read(cls, known: Known, folder: Path, album: Album) -> Eyes:
        """Those of a configuration, from a platform's folder."""
        answers = {each.digest: each for each in answers_of(known, folder)}
        return cls(answers, preferences(folder / "journal", known.baseline), album, {})

    def preference(self, parameters: ParametersDict) -> Preference | None:
        """What people said of a candidate."""
        return self.said.get(digest(parameters))

    def worst(
        self, parameters: ParametersDict, cell: CellResult, *, used: bool
    ) -> list[WorstImages]:
        """The worst images of an answer by each metric; none of another candidate, or where no
        images are kept.

        Args:
            used: whether it is what the page says to use.
        """
        answer = self.answers.get(digest(parameters))
        if answer is None or not answer.kept:
            return []
        scores = answer.row.scores
        ranked = worst(answer.baseline.scores, scores, answer.row.prompts)
        found = []
        for place, metric in enumerate(in_order(ranked, cell.search.limits)):
            rows = ranked[metric]
            kept = [row for row in rows if row.prompt in answer.kept][:SHOWN]
            pairs = []
            for rank, row in enumerate(kept):
                level = METRIC if place and not rank else LAST
                if not place and not rank:
                    level = USED if used else ANSWER
                images = answer.originals[row.prompt], answer.kept[row.prompt]
                numbers = [self.album.add(path, level) for path in images]
                pairs.append(WorstPair(row.prompt, row.value, row.baseline, *numbers))
                self.texts[row.prompt] = answer.baseline.texts[row.prompt]
            among = None if kept == rows[: len(kept)] else len(answer.kept)
            found.append(WorstImages(metric, pairs, among))
        return found
