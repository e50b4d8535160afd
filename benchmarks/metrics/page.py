"""docs/experiments/metrics.md, made from the recorded tables, costs and replays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown import table
from benchmarks.metrics import bounds_part, thresholds_part, verdicts
from benchmarks.metrics.areas import SAMPLES, Pooled, area, badness, breaking
from benchmarks.metrics.cost import Costs
from benchmarks.metrics.scored import TRUTH, Candidate, metrics_of, of_table
from benchmarks.metrics.searching import Replays
from benchmarks.search.tables import Table, tables
from benchmarks.search.tables import read as read_table
from diffaccel.store.jsonio import read_record

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = HERE / "cpu"
TABLES_OF_MEANS = ROOT / "tests" / "unit" / "data"
"""The whole grid of a configuration, with means of PSNR and SSIM."""
COSTS, REPLAYS, MEANS = "costs.json", "replays.json", "replays-of-means.json"
NOTES = HERE / "notes.md"
"""What the tables show, in words."""
PAGE = ROOT / "docs" / "experiments" / "metrics.md"
FEW = (0.02, 0.05)
"""Shares of broken scenes above which a candidate counts as one that breaks scenes."""


@dataclass(frozen=True, eq=False)
class Data:
    """All that the page is made from."""

    tables: list[Table]
    costs: Costs
    replays: Replays
    means: Replays | None

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for each in self.tables for candidate in of_table(each)]


def read() -> Data:
    """What was recorded."""
    means = DATA / MEANS
    return Data(
        [read_table(path) for path in tables(DATA)],
        read_record(Costs, DATA / COSTS),
        read_record(Replays, DATA / REPLAYS),
        read_record(Replays, means) if means.exists() else None,
    )


def page(data: Data) -> str:
    """The whole page."""
    candidates = data.candidates
    parts = [
        "# How well metrics tell broken scenes",
        "<!-- Made by `python -m benchmarks.metrics report` from benchmarks/metrics. -->",
        _intro(data, candidates),
        NOTES.read_text(encoding="utf-8").strip(),
        "## Images",
        _images_intro(candidates),
        images_table(candidates),
        "## Candidates",
        _candidates_intro(candidates),
        candidates_table(candidates),
        "## Thresholds",
        thresholds_part.INTRO,
        thresholds_part.shown(candidates, FEW[1]),
        "## Prompts until it is clear",
        thresholds_part.PROMPTS,
        prompts_table(candidates),
        "## Cost",
        "Seconds an image on one core, and as a share of what generating the image takes.[^cost]",
        cost_table(data.costs, _plain(data.tables)),
        *bounds_part.parts(data.tables, data.replays, data.means),
        _footnotes(data),
    ]
    return "\n\n".join(parts) + "\n"


def _intro(data: Data, candidates: Sequence[Candidate]) -> str:
    named = ", ".join(f"`{each.baseline.configuration.slug}`" for each in data.tables)
    prompts = len(data.tables[0].baseline.prompts)
    return (
        "The embedded models draw scenes, and `scene_right` reads off the pixels whether a scene "
        f"is the one that its caption names. So it is known which images broke. {len(candidates)} "
        f"candidates of {named} were evaluated with {prompts} prompts each, and scored by every "
        "metric that needs no weights from a hub.[^table] *Broken* means: right in the baseline's "
        "image, wrong in the candidate's."
    )


def _images_intro(candidates: Sequence[Candidate]) -> str:
    broken = sum(int(each.broken.sum()) for each in candidates)
    whole = sum(len(each.broken) for each in candidates)
    return (
        f"{broken} of {whole} images broke. The area under the ROC curve is how often a metric "
        "rates a broken image worse than an intact one: 1 is always, 0.5 is chance. The brackets "
        f"have its 95% interval, from {SAMPLES} samples of the prompts. `clip_score` is compared "
        "with the baseline image's value. The other columns have the images of some accelerators "
        "alone."
    )


def images_table(candidates: Sequence[Candidate]) -> str:
    """The area of each metric over images: of all, and of each cell's."""
    cells = list(dict.fromkeys(each.cell for each in candidates))
    groups = {cell: [each for each in candidates if each.cell == cell] for cell in cells}
    found = {name: Pooled.of(candidates, name) for name in metrics_of(candidates)}
    rows = []
    for name in sorted(found, key=lambda name: -found[name].area):
        low, high = found[name].interval()
        alone = [area_of(Pooled.of(group, name)) for group in groups.values()]
        rows.append([f"`{name}`", f"{found[name].area:.2f} ({low:.2f} to {high:.2f})", *alone])
    counts = [f"{sum(int(e.broken.sum()) for e in group)}" for group in groups.values()]
    broken = ["broken images", str(int(next(iter(found.values())).broken.sum())), *counts]
    return table(["metric", "all", *cells], [*rows, broken])


def area_of(pooled: Pooled) -> str:
    """Nothing where all broke, or none."""
    return "" if pooled.area != pooled.area else f"{pooled.area:.2f}"


def _candidates_intro(candidates: Sequence[Candidate]) -> str:
    counts = " and ".join(
        f"{int(breaking(candidates, most).sum())} break more than {most:.0%} of the scenes"
        for most in FEW
    )
    least = min(len(each.broken) for each in candidates)
    return (
        f"A limit judges a candidate by its mean. Of {len(candidates)} candidates {counts}. With "
        f"{least} scenes that can break, one broken scene is {1 / least:.1%}. The area is how "
        "often a metric rates one of these candidates worse than one of the others."
    )


def candidates_table(candidates: Sequence[Candidate]) -> str:
    """The area of each metric over candidates."""
    rows = []
    for name in metrics_of(candidates):
        worse = badness(candidates, name)
        rows.append([f"`{name}`", *(f"{area(worse, breaking(candidates, m)):.3f}" for m in FEW)])
    rows.sort(key=lambda row: -float(row[2]))
    return table(["metric", *(f"more than {most:.0%} broken" for most in FEW)], rows)


def prompts_table(candidates: Sequence[Candidate]) -> str:
    """How many prompts a verdict takes with each limit."""
    rows = []
    for words, limit, loss in thresholds_part.tested(candidates, FEW[1]):
        populations = [verdicts.margins_of(each, limit, loss) for each in candidates]
        found = verdicts.needed(populations)
        rows.append(
            [
                words,
                f"{found.prompts:.0f}",
                *(f"{found.undecided[count]:.0%}" for count in (16, 32, 64)),
                f"{found.wrong:.1%}",
            ]
        )
    header = ["limit", "prompts", *(f"undecided at {count}" for count in (16, 32, 64)), "wrong"]
    return table(header, rows)


def _plain(measured: Sequence[Table]) -> float:
    """Seconds to generate an image without acceleration."""
    first = measured[0]
    return first.provenance.plain / first.baseline.images_per_call


def cost_table(costs: Costs, plain: float) -> str:
    """What each metric takes, the cheapest first."""
    order: Mapping[str, float] = dict(sorted(costs.seconds.items(), key=lambda item: item[1]))
    rows = [
        [f"`{name}`", f"{seconds:.4f}", f"{seconds / plain:.2%}"] for name, seconds in order.items()
    ]
    return table(["metric", "seconds", "of generating"], rows)


def _footnotes(data: Data) -> str:
    first = data.tables[0]
    where = first.baseline.environment
    versions = f"torch {where.versions['torch']}, diffusers {where.versions['diffusers']}"
    days = sorted({each.provenance.date[:10] for each in data.tables})
    commands = " and ".join(f"`{each.provenance.command}`" for each in data.tables)
    lines = [
        f"[^table]: {commands}, then `collect` with the same arguments; {where.device}, "
        f"{where.threads} thread, {where.dtype}, {versions}; {', '.join(days)}. The ground truth "
        f"is `{TRUTH}`.",
        f"[^cost]: `python -m benchmarks.metrics cost`: {data.costs.images} drawn scenes at once, "
        f"medians of {data.costs.rounds} rounds; {data.costs.device}; {data.costs.date[:10]}. "
        "Other work ran on the machine, so the seconds are rough.",
        *bounds_part.footnotes(data.replays, data.means),
    ]
    return "\n".join(lines)
