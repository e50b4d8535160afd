"""The page and the plot that show what replays gave: made from data, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.gpu.page import short
from benchmarks.markdown import table
from benchmarks.search import peers
from benchmarks.search.live import CLOCKINGS, Session, Side
from benchmarks.search.replay import EXACT, PAIRS, TOLERANCE, least_seconds
from benchmarks.search.results import REFERENCE, SMALLEST, Figures, Summary, both, mean_at
from benchmarks.search.tables import Table
from benchmarks.search.truth import LIMIT, TARGETS
from diffaccel.evaluation.records import Baseline

KINDS = ((False, "Single accelerators"), (True, "Combinations"))
Show = Callable[[dict[str, Figures]], str]
"""What a goal is held against, of the strategies' figures."""


def figures(known: Sequence[Summary], *, combined: bool) -> dict[str, Figures]:
    """Each strategy over all cells of a kind."""
    groups: dict[str, list[Summary]] = {}
    for each in known:
        if each.combined is combined:
            groups.setdefault(each.strategy, []).append(each)
    reference = groups.get(REFERENCE, [])
    order = [name for name in peers.names() if name in groups]
    return {name: Figures.of(groups[name], reference or groups[name]) for name in order}


def _pair(values: tuple[float, float], form: str) -> str:
    return f"{values[0]:{form}} ({values[1]:{form}})"


def strategies_part(found: dict[str, Figures]) -> str:
    """The strategies beside each other: medians, and in brackets the worst."""
    header = (
        "strategy",
        "GPU-seconds",
        "of exhaustive",
        "full measurements",
        "regret of the bound",
        "wrong of 100 targets",
        "loss too much, %",
        f"of exhaustive, to {REFERENCE}'s regret",
    )
    return table(header, [_line(name, each) for name, each in found.items()])


def _line(name: str, each: Figures) -> tuple[str, ...]:
    return (
        name,
        _pair(each.seconds, ".0f"),
        _pair(each.share, ".1%"),
        _pair(each.full, ".0f"),
        _pair(each.regret, ".1%"),
        f"{each.wrong:.1f}",
        _pair((100 * each.excess[0], 100 * each.excess[1]), ".2f"),
        _price(each) if name != REFERENCE else f"{each.mean:.1%}",
    )


def _price(each: Figures) -> str:
    return f"{each.mean:.1%}, not there" if each.equal is None else f"{each.equal:.1%}"


def goals_part(single: dict[str, Figures], joint: dict[str, Figures]) -> str:
    """The goals beside what the product's strategy does."""
    share = f"median {_pair(single[REFERENCE].share, '.1%')}" if single else ""
    full = f"median {_pair(joint[REFERENCE].full, '.0f')}" if joint else ""
    rows: list[tuple[str, ...]] = [
        ("single accelerators: 5% of the exhaustive GPU-seconds", share, ""),
        ("combinations: the cost of 30 full measurements", "", full),
    ]
    for goal, show in GOALS.items():
        rows.append((goal, *(show(found) if found else "" for found in (single, joint))))
    return table(("goal", "single accelerators", "combinations"), rows)


def oracle(measured: Sequence[Table], batch: int) -> dict[str, float]:
    """By cell, the GPU-seconds that the answers alone take: no search can take less."""
    return {cell.slug: least_seconds(each, cell, batch) for each in measured for cell in each.rows}


def least_part(known: Sequence[Summary], least: Mapping[str, float]) -> str:
    """What an oracle takes."""
    own = {each.cell: each for each in known if each.strategy == REFERENCE}
    found = {cell: each for cell, each in own.items() if cell in least}
    shares = [least[cell] / each.whole for cell, each in found.items() if not each.combined]
    full = [least[cell] / each.full for cell, each in found.items() if each.combined]
    said = []
    if shares:
        said.append(
            f"{_pair(both(shares), '.1%')} of the exhaustive GPU-seconds of a single accelerator"
        )
    if full:
        said.append(f"{_pair(both(full), '.0f')} full measurements of a combination")
    return (
        "An oracle, which generates and times nothing but the answers, each once, takes "
        f"{' and '.join(said)} (medians, in brackets the most): less is not to be had."
    )


def _ratio(found: dict[str, Figures]) -> str:
    """The share of the best sampler's GPU-seconds; then of the best of those that are alone."""
    alone = {peer.name for peer in peers.PEERS if peer.alone}
    samplers = {name: each for name, each in found.items() if name.startswith("Optuna")}
    best = []
    for group in (samplers.keys() - alone, samplers.keys() & alone):
        if group:
            name = min(sorted(group), key=lambda name: _rank(samplers[name]))
            each = samplers[name]
            share = found[REFERENCE].mean / (each.mean if each.equal is None else each.equal)
            said = ", which never gets there" if each.equal is None else ""
            best.append(f"{share:.2f} of {name}'s{said}")
    return "; ".join(best)


def _rank(sampler: Figures) -> tuple[bool, float]:
    """Who gets there soonest; else who ends nearest."""
    if sampler.equal is None:
        return True, sampler.mean_regret
    return False, sampler.equal


GOALS: dict[str, Show] = {
    "median regret of the bound under 1%": lambda found: f"{found[REFERENCE].regret[0]:.1%}",
    "worst regret of the bound under 3%": lambda found: f"{found[REFERENCE].regret[1]:.1%}",
    "at most 1 wrong verdict in 100 targets": lambda found: f"{found[REFERENCE].wrong:.1f}",
    "at most a fifth of the GPU-seconds of the best Optuna sampler at equal regret": _ratio,
}
"""Those of single accelerators and of combinations alike."""


def cells_part(known: Sequence[Summary], least: Mapping[str, float]) -> str:
    """The product's strategy, cell by cell: means over the seeds, and the worst regret."""
    rows = [
        (
            each.cell,
            str(each.candidates),
            f"{np.mean(each.evaluated):.1f}",
            f"{np.mean(each.timed):.1f}",
            f"{np.mean(each.seconds):.0f}",
            f"{each.share:.1%}",
            f"{least[each.cell] / each.whole:.1%}",
            _pair((float(np.mean(each.regret)), max(each.regret)), ".1%"),
            f"{sum(each.wrong) / len(each.seconds):.1f}",
        )
        for each in known
        if each.strategy == REFERENCE
    ]
    header = (
        "cell",
        "candidates",
        "evaluations",
        "timed",
        "GPU-s",
        "share",
        "oracle's share",
        "regret",
        "wrong of 7",
    )
    return table(header, rows)


def each_part(known: Sequence[Summary]) -> str:
    """Every strategy in every cell: mean regret of the bound, and mean GPU-seconds."""
    names = [name for name in peers.names() if any(each.strategy == name for each in known)]
    cells: dict[str, dict[str, str]] = {}
    for each in known:
        text = f"{np.mean(each.regret):.1%}, {np.mean(each.seconds):.0f} s"
        cells.setdefault(each.cell, {})[each.strategy] = text
    rows = [(cell, *(found.get(name, "") for name in names)) for cell, found in cells.items()]
    return table(("cell", *names), rows)


def targets_part(known: Sequence[Summary]) -> str:
    """Every strategy at every target: wrong verdicts, and the mean loss too much."""
    names = [name for name in peers.names() if any(each.strategy == name for each in known)]
    rows = []
    for name in names:
        own = [each for each in known if each.strategy == name]
        count = sum(len(each.seconds) for each in own)
        row = [name]
        for number in range(len(TARGETS)):
            excess = [x for each in own for x in each.excess[number]]
            wrong = sum(each.wrong[number] for each in own) / count
            row.append(f"{wrong:.1%}, {100 * np.mean(excess):.2f}" if excess else f"{wrong:.1%}")
        rows.append(row)
    return table(("strategy", *(f"{target}x" for target in TARGETS)), rows)


def tables_part(known: Sequence[Table]) -> str:
    """What the tables hold, and where they were measured."""
    rows = []
    for each in known:
        every = [row for cell in each.rows.values() for row in cell]
        rows.append(
            (
                each.baseline.configuration.slug,
                str(len(each.rows)),
                str(len(every)),
                str(sum(row.failure is not None for row in every)),
                str(sum(row.measured is not None for row in every)),
                f"{each.provenance.plain:.2f}",
                f"{each.provenance.noise:.1%}",
                f"{each.provenance.error:.1%}",
                f"{each.provenance.timing_error:.1%}",
                f"{each.provenance.nugget:.1%}",
                each.baseline.date[:10],
            )
        )
    header = (
        "configuration",
        "cells",
        "candidates",
        "failed",
        "timed",
        "plain call, s",
        "noise of a pair",
        "held-out error",
        "the timing's part",
        "nugget",
        "measured",
    )
    return table(header, rows)


def live_part(sessions: Sequence[Session]) -> str:
    """What the search decided itself, beside the tables."""
    rows = [
        (
            each.cell,
            f"{each.candidates:,}",
            f"{each.evaluated}, {each.timed}",
            f"{each.seconds:.0f}",
            _side(each.bound),
            f"{sum(each.met)} of {len(each.met)}",
            f"{each.candidates:,}",
            f"{each.whole:.0f}",
            _side(each.best),
            f"{sum(each.meets)}",
            f"{each.regret:.1%}",
        )
        for session in sessions
        for each in session.cells
    ]
    header = (
        "cell",
        "candidates",
        "evaluated, timed",
        "GPU-s",
        "bound",
        "targets met",
        "table's candidates",
        "all of them, GPU-s",
        "their best",
        "targets they meet",
        "regret",
    )
    return table(header, rows)


def _side(side: Side | None) -> str:
    return f"{side.speedup:.2f}x, {side.loss:+.1%}: {short(side.parameters)}" if side else "none"


LIVE = """\
`python -m benchmarks.search decide` on {device}, {date}: the search, as it was then, runs as in
the workflow, all cells of a configuration in one process, and knows nothing of the tables;
{prompts} prompts a call, as the tables were made. GPU-seconds are those of generating, scoring and
timing
until the bound and all targets are decided. What all candidates of the table take stands beside it:
evaluation and timing, without scoring. In brackets are the parameters, as in
[accelerators.md](../reference/accelerators.md). A table has a part of the grid, so that the search
may find what is faster than its best. Regret: what the bound lacks of the faster of the two.

{compared}"""


def dates_part(known: Sequence[Summary]) -> str:
    """When the strategies were replayed; those that were replayed before the others by name."""
    dates = {each.strategy: each.date for each in known}
    newest = max(dates.values())
    older = [f"{name} on {date}" for name, date in sorted(dates.items()) if date != newest]
    but = f"; but {', '.join(older)}, with the statistics of then" if older else ""
    return f"Replayed on {newest}{but}."


def page(
    known: Sequence[Summary],
    measured: Sequence[Table],
    decided: Sequence[Session],
    data: str,
    batch: int,
) -> str:
    """The whole page."""
    single, joint = (figures(known, combined=combined) for combined, _ in KINDS)
    where, first = measured[0].baseline.environment, measured[0].baseline
    versions = ", ".join(f"{name} {value}" for name, value in sorted(where.versions.items()))
    seeds, least = max(len(each.seconds) for each in known), oracle(measured, batch)
    parts = [
        "# The search, replayed on measured tables",
        f"<!-- Made by `make bench-search` from {data}. -->",
        f"Candidates of {sum(len(each.rows) for each in measured)} cells were evaluated and "
        "scored on "
        f"{where.device} ([tables](#the-tables)). Strategies are replayed on these tables: the "
        "search runs as it does on a GPU, evaluating, predicting and timing, but looks "
        "up what it "
        "wants measured, and adds up the GPU-seconds that this would have cost. What is asked of "
        f"each cell is its bound (loss below {LIMIT:.0%}) and the least loss at "
        f"{', '.join(f'{target}x' for target in TARGETS)}. `make bench-search` does it all again "
        "without a GPU, with the same figures.",
        dates_part(known),
        "## Goals",
        goals_part(single, joint),
        least_part(known, least),
        "![Regret of the bound against GPU-seconds](search-benchmark.png)",
    ]
    for found, (_, title) in zip((single, joint), KINDS, strict=True):
        if found:
            parts += [f"## {title}", strategies_part(found)]
    parts.append(_legend(seeds, batch))
    if decided:
        parts += ["## Live", _live(decided, first), live_part(decided)]
    parts += ["## The default strategy, cell by cell", cells_part(known, least)]
    parts += [
        "## Every strategy in every cell",
        "Mean regret of the bound, and mean GPU-seconds.",
        each_part(known),
        "## Every strategy at every target",
        "Share of wrong verdicts, and where the target is rightly met the mean loss beyond the "
        "least there is, in % of the score.",
        targets_part(known),
        "## The tables",
        "`make bench-tables` makes them, on a machine with a GPU.",
        tables_part(measured),
    ]
    parts.append(
        f"Measured with {len(first.prompts)} prompts, {first.spec.batch_size} a call, in "
        f"{where.dtype} on {where.device}, driver {where.driver or 'none'}; {versions}; each by "
        f"`{measured[0].provenance.command}` and the like. Noise: standard deviation of one timed "
        "pair's ratio. A part of the candidates was timed, in two to four pairs; the table's "
        "speeds "
        "are what the model of speeds says that was told of all these timings. Held-out error: "
        "that of predictions for timed candidates that they were not told of; the timing's part is "
        "what the noise of the pairs explains of it. Roughness: how far the true speed of a "
        "candidate is from what the model can say, by the evidence of the timings; in a replay it "
        "is off by as much, drawn anew for each seed. So the law of the speeds is taken for "
        "true "
        "here, as far as it was seen to hold: how good it is where the timing is better is in "
        "[searching.md](../explanation/searching.md)."
    )
    return "\n\n".join(parts) + "\n"


LEGEND = """\
Medians over cells and {seeds} seeds, in brackets the worst. A seed decides the noise of the timing
and what a strategy draws at random.

- GPU-seconds: until the bound and all targets are decided. Prompts are taken {batch} a call, as on
  full-size networks, and a call takes what the recorded one took. Timing is {pairs} rounds of a
  plain call, shared by what is timed in it, and one of each candidate; up to twice as many while
  they   differ, for who times all and for what is timed again.
- Of exhaustive: of what it takes to evaluate all candidates with all prompts, and to time them.
- Full measurement: the mean cost of one candidate, evaluated and timed.
- Regret of the bound: the share of the largest speedup within the limit that the chosen candidate
  lacks; 100% where the chosen one is beyond the limit. Where none was found, or what was is slower,
  the baseline pipeline is chosen: nothing below 1x is lost.
- Wrong verdict: a target is called met by a candidate that misses it, or missed although a
  candidate   meets it; by more than {tolerance:.0%} of the speedup.
- Loss too much: at a target that is rightly met, the loss beyond the least there is, in % of the
  score.
- To {reference}'s regret: the share of these GPU-seconds, the same in every cell, after which the
  mean regret over the cells is down to that with which `{reference}` ends (or
  {smallest:.1%}); where it never is, the mean share of its whole budget. `{reference}`'s is the
  mean of all that it spends, on the targets and on knowing the end, too.

All strategies see the same predicted speeds, so that what is compared is the choice of candidates;
but for two samplers that are `alone` and time whatever they evaluate, as who uses them alone
must. `{exact}` evaluates everything, what clearly loses too much with a part of the prompts, and
times
it. `first version` walks the candidates from the most
aggressive downwards and stops at the first that keeps the loss. `random` and Optuna's samplers,
which have no end of their own, are given {share:.0%} of the candidates, at least {fewest} and at
most {most} (the Gaussian process {gp}). `halving` takes a quarter of the prompts for twice as many
candidates, half of them for half of these, and all for half of those. The samplers maximise the
logarithm of the speedup (all but the Gaussian process minimise the loss, too; that made it worse),
with the constraint that the loss is within the limit; where they suggest what is forbidden or
known, the nearest candidate that is neither is measured."""


def _live(decided: Sequence[Session], first: Baseline) -> str:
    return LIVE.format(
        device=decided[0].environment.device,
        date=" and ".join(sorted({each.date[:10] for each in decided})),
        prompts=first.spec.batch_size,
        compared="\n".join(map(_comparison, decided)),
    )


def _comparison(session: Session) -> str:
    """Where the speedups of a session are from."""
    if session.spread is None:
        return f"- {session.configuration}: speedups as the search and the table had them."
    return (
        f"- {session.configuration}: all bounds were timed once more beside each other at the end, "
        f"{CLOCKINGS} times; these are the medians, of pairs with a standard deviation of "
        f"{session.spread:.0%}."
    )


def _legend(seeds: int, batch: int) -> str:
    return LEGEND.format(
        seeds=seeds,
        batch=batch,
        pairs=PAIRS,
        tolerance=TOLERANCE,
        reference=REFERENCE,
        smallest=SMALLEST,
        exact=EXACT,
        share=peers.SHARE,
        fewest=peers.FEWEST,
        most=peers.MOST,
        gp=peers.GP.most,
    )


def plot(known: Sequence[Summary], path: Path) -> None:
    """Mean regret of the bound over cells and seeds against GPU-seconds, one line a strategy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    present = [(combined, title) for combined, title in KINDS if _of(known, None, combined)]
    evaluation, panels = pyplot.subplots(
        1, len(present), figsize=(5.2 * len(present), 4), sharey=True, squeeze=False
    )
    names = [name for name in peers.names() if any(each.strategy == name for each in known)]
    for panel, (combined, title) in zip(panels[0], present, strict=True):
        for number, name in enumerate(names):
            cells = _of(known, name, combined)
            if cells:
                spent, regret = _together(cells)
                width = 2.6 if name == REFERENCE else 1.3
                panel.plot(
                    spent,
                    100 * regret,
                    label=name,
                    color=f"C{number}",
                    linewidth=width,
                    drawstyle="steps-post",
                )
                panel.plot(spent[-1:], 100 * regret[-1:], "o", color=f"C{number}", markersize=4)
        panel.set(xscale="log", title=title, xlabel="GPU-seconds", yscale="symlog")
        panel.set_yticks([0, 1, 3, 10, 30, 100], ["0%", "1%", "3%", "10%", "30%", "100%"])
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("regret of the bound (mean)")
    panels[0][0].legend(fontsize=8)
    evaluation.tight_layout()
    evaluation.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(evaluation)


def _of(known: Sequence[Summary], name: str | None, combined: bool) -> list[Summary]:
    return [
        each
        for each in known
        if each.combined is combined and (name is None or each.strategy == name)
    ]


def _together(cells: Sequence[Summary]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the cells' curves, up to where the last has ended."""
    answers = [spent for each in cells for spent, regret in each.curve if regret < 1]
    first = min(answers, default=1.0)
    last = max(max(each.seconds) for each in cells)
    spent = np.geomspace(max(first, last / 1e3), last, 200)
    return spent, mean_at([each.curve for each in cells], spent)
