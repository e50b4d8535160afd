"""One person compares pairs of images: in random order, each image on a random side.

What is shown tells nothing of which image is which. Both images went through the same coding and
have the same size in bytes. Their names are new random numbers for each pair that is shown.
"""

from __future__ import annotations

import hashlib
import io
import random
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from diffaccel.errors import InputError
from diffaccel.evaluation.gallery import encoded
from diffaccel.report.blind.answers import Compared
from diffaccel.report.blind.preference import standing
from diffaccel.report.blind.records import Comparison, Verdict, Which, journal_of
from diffaccel.store.jsonio import today

Said = Literal["a", "same", "b"]
"""Which image is better."""


@dataclass(frozen=True)
class Pair:
    """The baseline's image and an answer's, of one prompt and seed."""

    answer: Compared
    prompt: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells pairs apart: baseline, parameters, prompt."""
        return self.answer.baseline.digest, self.answer.digest, self.prompt

    @property
    def original(self) -> tuple[str, int]:
        """What tells the baseline's images apart."""
        return self.answer.baseline.digest, self.prompt

    def images(self) -> tuple[Image.Image, Image.Image]:
        """The baseline's and the accelerated one, both as they are kept: the baseline's is coded
        here as the other was when it was kept. What coding changes tells nothing then.

        Raises:
            InputError: one of them cannot be read, or they differ in size.
        """
        paths = self.answer.originals[self.prompt], self.answer.kept[self.prompt]
        try:
            own = Image.open(paths[1]).convert("RGB")
            coded = encoded(Image.open(paths[0]), max(own.size))
            baseline = Image.open(io.BytesIO(coded)).convert("RGB")
        except OSError as error:
            raise InputError(f"an image cannot be read: {error}") from None
        if baseline.size != own.size:
            raise InputError(f"{paths[1]} is no image of the size of {paths[0]}")
        return baseline, own


def plain(image: Image.Image) -> bytes:
    """An image as PNG: pixels and nothing else, not compressed, so that images of one size have the
    same number of bytes."""
    file = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(file, "PNG", compress_level=0)
    return file.getvalue()


@dataclass(frozen=True)
class Shown:
    """A pair as it is shown.

    Args:
        name: of this showing, at random.
        images: by random name, A first.
        first: which of the two is A.
        hashes: of the pixels of the baseline's image and of the accelerated one.
    """

    pair: Pair
    name: str
    images: dict[str, bytes]
    first: Which
    hashes: tuple[str, str]

    @property
    def text(self) -> str:
        """The prompt."""
        return self.pair.answer.baseline.texts[self.pair.prompt]

    def verdict(self, said: Said) -> Verdict:
        """What was said, of the accelerated image."""
        if said == "same":
            return "same"
        return "better" if (said == "a") == (self.first == "accelerated") else "worse"


@dataclass
class Session:
    """The pairs that a person has not judged yet, and what it says of them. Each verdict is on disk
    before the next pair is shown.

    Args:
        journals: folder of the platform's journals.
        judge: who says it; None: nobody in particular.
        seed: of the order and the sides; None: one that nobody knows.
    """

    answers: Sequence[Compared]
    journals: Path
    judge: str | None = None
    seed: int | None = None
    skipped: list[str] = field(default_factory=list)
    """Pairs whose images cannot be read, and why."""

    def __post_init__(self) -> None:
        if self.seed is None:
            self.seed = secrets.randbits(53)
        self._lock = threading.Lock()
        self._done: list[Pair] = []
        self._shown: Shown | None = None
        pairs = in_order(self.answers, self.seed)
        judged = self._judged()
        self.left = [each for each in pairs if each.key not in judged]
        self.before = len(pairs) - len(self.left)

    def _judged(self) -> set[tuple[str, str, int]]:
        found = set()
        for baseline in {each.baseline.digest: each.baseline for each in self.answers}.values():
            rows = standing(journal_of(self.journals, baseline).rows())
            own = (row for row in rows if row.judge == self.judge)
            found |= {(baseline.digest, row.answer, row.prompt) for row in own}
        return found

    @property
    def judged(self) -> int:
        """How many pairs are, those of former sessions with them."""
        return self.before + len(self._done)

    @property
    def can_undo(self) -> bool:
        """Whether something was said in this session."""
        return bool(self._done)

    def shown(self) -> Shown | None:
        """The pair that is to be judged now, always the same until it is; None at the end."""
        with self._lock:
            while self._shown is None and self.left:
                try:
                    self._shown = self._show(self.left[0])
                except InputError as error:
                    self.skipped.append(str(error))
                    del self.left[0]
            return self._shown

    def image(self, name: str) -> bytes | None:
        """A PNG of the pair that is shown; None where it has no such image."""
        shown = self._shown
        return shown.images.get(name) if shown else None

    def say(self, name: str, said: Said) -> None:
        """Notes which image is better. What is said of a pair that is not shown any more, as by a
        second click, does not count.

        Args:
            name: of the showing.
        """
        with self._lock:
            if self._shown is None or self._shown.name != name:
                return
            shown = self._shown
            self._note(shown, shown.verdict(said))
            self._done.append(shown.pair)
            self.left.remove(shown.pair)
            self._shown = None

    def undo(self) -> None:
        """Takes back what was said last in this session, and shows that pair again."""
        with self._lock:
            if not self._done:
                return
            shown = self._show(self._done[-1])
            self._note(shown, "undone")
            self.left.insert(0, self._done.pop())
            self._shown = shown

    def _show(self, pair: Pair) -> Shown:
        images = pair.images()
        sums = [hashlib.sha256(each.tobytes()).hexdigest()[:16] for each in images]
        swapped = random.Random(f"{self.seed}/{pair.key}").random() < 0.5
        sides = [images[1], images[0]] if swapped else [*images]
        coded = {secrets.token_hex(16): plain(each) for each in sides}
        first: Which = "accelerated" if swapped else "baseline"
        return Shown(pair, secrets.token_hex(16), coded, first, (sums[0], sums[1]))

    def _note(self, shown: Shown, verdict: Verdict) -> None:
        answer, seed = shown.pair.answer, self.seed
        assert seed is not None, "one was made"
        row = Comparison(
            parameters=answer.row.parameters,
            prompt=shown.pair.prompt,
            baseline_image=shown.hashes[0],
            accelerated_image=shown.hashes[1],
            first=shown.first,
            verdict=verdict,
            seed=seed,
            date=today(),
            judge=self.judge,
        )
        journal_of(self.journals, answer.baseline).append(row)


def in_order(answers: Iterable[Compared], seed: int) -> list[Pair]:
    """All pairs, at random. The baseline's image of a prompt is part of a pair of each answer, and
    whoever sees it again knows it: so each comes once before any comes again."""
    every = [Pair(answer, prompt) for answer in answers for prompt in answer.asked]
    every.sort(key=lambda pair: pair.key)
    random.Random(seed).shuffle(every)
    return [pair for _, pair in sorted(_rounds(every), key=lambda each: each[0])]


def _rounds(pairs: Iterable[Pair]) -> Iterator[tuple[int, Pair]]:
    """Each pair with how often its baseline's image came before."""
    seen: Counter[tuple[str, int]] = Counter()
    for pair in pairs:
        yield seen[pair.original], pair
        seen[pair.original] += 1
