"""What a search costs with several limits, and the bounds under them: the page's second half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.gpu.page import short
from benchmarks.markdown import table
from benchmarks.metrics.searching import ASKED, BOUND, QUIET, Found, Replays, best, costs
from benchmarks.metrics.thresholds_part import TRUE_LIMIT
from benchmarks.metrics.verdicts import ANALYSES, SAMPLES
from benchmarks.search.tables import Table
from benchmarks.search.truth import LIMIT
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import PRESETS, read_limits
from diffaccel.search.estimates import Estimate

SEARCH = """\
The search is [replayed](search-benchmark.md) on the table: it looks up what it wants measured,
and what that would have cost is added up.[^search] Asked are the upper bound of each cell and
the least loss at seven speedups, or the bound alone. One limit is the loss of CLIP score below
2%. The second is PSNR at least 30 dB, the third SSIM at least 0.9. For comparison there is one
limit that fewer candidates keep: a loss below 1% or 0.5%. `full` is the cost of a cell's search
in full measurements of one candidate: evaluation with all prompts, and timing. The next columns
have that cost over the cost with one limit of 2%: of all cells, of single accelerators, and of
combinations. The goal is at most 1.3. `regret` is what the bound that was found lacks of the
best in the table; in brackets the worst. All others are means over cells and seeds."""
OF_MEANS = """\
That table is small. An older one has the whole grid of the same configuration, but only the
mean of PSNR and SSIM of each candidate. Here each image counts as if it had that mean, so a
limit of PSNR or SSIM is clear at once, as far as the sign is right. What is left is the effect
on the choice of candidates.[^means]"""
BOUNDS = """\
The largest speedup of each cell that keeps the limits, among the candidates of the table.
`good` is the loss limit alone, `same` adds PSNR and SSIM. The loss limit holds under every
preset, so `good` and `same` together are `same`. The column between has PSNR and SSIM without
the loss limit, and the last one the ground truth in their place: at most five broken scenes in
a hundred more than the baseline's."""


def parts(measured: Sequence[Table], replays: Replays, means: Replays | None) -> Iterator[str]:
    """From the search's cost to the bounds."""
    yield "## The search with more limits"
    yield SEARCH
    yield costs_table(replays.found)
    yield cells_table(replays.found)
    if means is not None:
        yield OF_MEANS
        yield costs_table(means.found)
        yield cells_table(means.found)
    yield "## Bounds under several limits"
    yield BOUNDS
    for each in measured:
        yield bounds_table(each)
    yield (
        "What the search finds, in how many of the seeds that is the best in the table, and the "
        "mean regret:"
    )
    for each in measured:
        yield found_table(each, replays)


def costs_table(found: Sequence[Found]) -> str:
    """The cost by what is asked; over all cells, and of single accelerators and combinations."""
    header = ["limits", "full", "times one limit's", "single", "combination"]
    header += ["evaluated", "images", "timed", "regret", "wrong of 100 targets"]
    every = costs(found)
    kinds = [
        costs([each for each in found if ("+" in each.cell) is joint]) for joint in (False, True)
    ]
    rows = [
        [
            name,
            f"{each.full:.1f}",
            *(f"{kind[name].times:.2f}" for kind in (every, *kinds)),
            f"{each.evaluated:.1f}",
            f"{each.images:.0f}",
            f"{each.timed:.1f}",
            f"{each.regret:.1%} ({each.worst_regret:.1%})",
            "" if name.startswith(BOUND) else f"{each.wrong:.1f}",
        ]
        for name, each in every.items()
    ]
    return table(header, rows)


def cells_table(found: Sequence[Found]) -> str:
    """The cost of each cell with one, two and three limits, and as multiples of that with one."""
    cells = dict.fromkeys((each.configuration, each.cell) for each in found)
    rows = []
    for configuration, cell in cells:
        own = [each for each in found if (each.configuration, each.cell) == (configuration, cell)]
        known = costs(own)
        rows.append(
            [
                f"{configuration}, {cell}",
                str(own[0].candidates),
                *(f"{known[name].full:.1f} ({known[name].times:.2f})" for name in ASKED),
            ]
        )
    header = ["cell", "candidates", *(f"{name}: full (times)" for name in ASKED)]
    return table(header, rows)


def bounds_table(measured: Table) -> str:
    """The truth of the table under the presets."""
    same, truth = read_limits(PRESETS["same"]), read_limits({"scene_right": TRUE_LIMIT})
    columns = {
        "`good`: loss": best(measured, ()),
        "PSNR and SSIM": best(measured, same, loss=False),
        "`same`: all three": best(measured, same),
        f"`scene_right` {TRUE_LIMIT}": best(measured, truth, loss=False),
    }
    rows = [
        [name_of(cell), *(_bound(found[cell]) for found in columns.values())]
        for cell in measured.rows
    ]
    return table([f"{measured.baseline.configuration.slug}", *columns], rows)


def name_of(cell: Cell) -> str:
    return "+".join(cell.accelerators)


def _bound(found: Estimate | None) -> str:
    return "none" if found is None else f"{found.speedup:.2f}x: {short(found.parameters)}"


def found_table(measured: Table, replays: Replays) -> str:
    """What the search chose, beside the truth."""
    slug = measured.baseline.configuration.slug
    rows = []
    for cell in measured.rows:
        row = [name_of(cell)]
        for name, asked in ASKED.items():
            (own,) = [
                each
                for each in replays.found
                if (each.configuration, each.cell, each.limits) == (slug, name_of(cell), name)
            ]
            row.append(_found(own, best(measured, asked.limits)[cell]))
        rows.append(row)
    return table([slug, *ASKED], rows)


def _found(own: Found, right: Estimate | None) -> str:
    wanted = right and right.parameters
    hits = sum(chosen == wanted for chosen in own.bounds)
    return f"{hits} of {len(own.bounds)}, {sum(own.regret) / len(own.regret):.1%}"


def footnotes(replays: Replays, means: Replays | None) -> Iterator[str]:
    """How the replays were made."""
    seeds = max(len(each.full) for each in replays.found)
    yield (
        f"[^prompts]: Sampled with replacement from the candidate's images, {SAMPLES} times each, "
        f"by the test of the search; nothing is called kept before {ANALYSES.usual} prompts. A "
        "search with several limits divides the error by their number, and so takes more."
    )
    yield (
        f"[^search]: `python -m benchmarks.metrics search`, {seeds} seeds, {replays.batch} prompts "
        f"a call, strategy `frontier`, loss limit {LIMIT:.0%}; {replays.date[:10]}. A seed decides "
        f"the noise of the timings, which is {QUIET:.1%} a pair, as on a machine that does nothing "
        "else."
    )
    if means is not None:
        count = max(len(each.full) for each in means.found)
        cells = len({(each.configuration, each.cell) for each in means.found})
        yield (
            f"[^means]: The same command, {cells} cells of tests/unit/data/"
            f"mini-SD1.5_DDIM_20.parquet, 16 prompts, {count} seeds; {means.date[:10]}."
        )
