"""What a run shows at its end: the table of cells, and what failed."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from diffaccel.experiment.grid import Configuration
from diffaccel.machine.jobs import last_line
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.recipes import advice
from diffaccel.recipes.known import Known
from diffaccel.report.words import named, verified
from diffaccel.search.records import CellResult
from diffaccel.stages import collect
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import RecordError, read_record

log = logging.getLogger(__name__)

WIDTH = 110
"""Columns where there is no terminal."""


def show_summary(results: str | Path) -> None:
    """Prints, cell by cell, the bound, the targets and the scripts, and where everything lies."""
    folder = Path(results)
    # What is not a terminal has no width of its own; rich would take 80 columns.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    timed = _show_speeds(console, folder)
    found, table = collect.overview(folder)
    if table.empty:
        console.print(f"no other results in {folder}" if timed else f"no results in {folder} yet")
        return
    cells = table.dropna(subset=["model"])
    console.print()
    for each in found:
        if each.configuration is None:
            continue
        rows = cells[(cells[KEYS] == list(each.configuration.words.values())).all(axis=1)]
        for view in _views(console, each.configuration, rows, each.fewer_steps):
            console.print(view)
        for name, cell in rows.groupby("accelerators", sort=False):
            if parameters := _records(cell)[0]["bound_parameters"]:
                console.print(f"  [dim]{name}: {_short(parameters)}[/]", highlight=False)
        for one in each.cells:
            if one.status == "refused":
                console.print(f"  {one.cell.slug}: {one.reason}", markup=False, highlight=False)
        _show_advice(console, folder, each.configuration)
        console.print()
    _show_beaten(console, cells, [each.fewer_steps for each in found if each.fewer_steps])
    _show_unmet(console, table)
    if not table[["clear", "bound_clear"]].fillna(True).all(axis=None):
        told = "all limits are kept" if _limited(table) else "the loss is below the limit"
        console.print(f"A ? means that the prompts were too few to tell whether {told}.")
    _show_time_up(console, table)
    asked = verified(table["verified"].dropna().tolist(), "as fast as was asked")
    kept = verified(table["kept"].dropna().tolist(), "as fast as when they were found")
    console.print(f"[bold]{table['verified'].count()} scripts verified: {asked}; {kept}.[/]")
    if "undecided" in {*table["verified"].dropna(), *table["kept"].dropna()}:
        console.print(
            "To decide the rest, set verify.budget to null in config.yaml, and run again."
        )
    held = table["heldout"].dropna().astype(bool)
    _show_held_out(console, held, limited=_limited(table))
    console.print(
        f"{folder}/summary.csv has every number; code/ the scripts; verify/ what was measured of "
        "them; speedup_bounds.json and search_params.json the tables of all that was found; "
        "tasks/tasks.json the tasks."
    )
    if (folder / "report.html").exists():
        console.print(f"The report: {folder}/report.html", highlight=False)


def _show_advice(console: Console, folder: Path, configuration: Configuration) -> None:
    """What to use; nothing where the baseline's record cannot be read, or is another's."""
    with contextlib.suppress(RecordError):
        known = Known.read(folder, configuration)
        if known.cells:
            found = advice.advise(known)
            told = [*advice.lines(found)]
            if found.best is not None:
                own = configuration
                named = f"--model {own.model} --scheduler {own.scheduler} --steps {own.steps}"
                told.insert(1, f"    diffaccel recommend {named} --out recipe.json")
            for line in told:  # a command must stay in one line, to be copied
                is_command = line.lstrip().startswith("diffaccel ")
                console.print(line, markup=False, highlight=False, soft_wrap=is_command)


def _show_time_up(console: Console, table: pd.DataFrame) -> None:
    """How many cells were not searched to the end, and how to go on."""
    cells = table.drop_duplicates([*KEYS, "accelerators"])["time_up"].dropna().astype(bool)
    if cells.any():
        console.print(
            f"The time limit (search.budget) ended the search of {int(cells.sum())} of "
            f"{len(cells)} cells before it was done. Faster candidates, or ones with less loss, "
            "may exist. To go on from here, raise search.budget in config.yaml, or set it to null, "
            "and run again."
        )


def _show_speeds(console: Console, folder: Path) -> bool:
    """Prints what was timed on untrained models; whether there is any."""
    paths = sorted(folder.glob("speed/*.json"))
    for path in paths:
        record = read_record(SpeedRecord, path)
        view = Table(header_style="underline", box=None, pad_edge=False)
        view.add_column("speedup", justify="right")
        view.add_column("parameters")
        for row in record.rows:
            parameters = in_words(row.parameters)
            speedup = "[yellow]-[/]" if row.speedup is None else f"{row.speedup:.2f}x"
            view.add_row(
                speedup, f"{parameters or 'none'}{f': {row.failure}' if row.failure else ''}"
            )
        console.print(
            f"\n[bold]{record.configuration.slug}, untrained: {record.seconds:.3f} s a call, "
            f"{record.share:.0%} of the device's peak; speed only, no score[/]",
            highlight=False,
            soft_wrap=True,
        )
        console.print(view)
    return bool(paths)


KEYS = ["model", "scheduler", "steps"]
BOUND = ("", "_clear", "_loss", "_loss_low", "_loss_high", "_beaten")
"""Ends of the names of the columns that the bound is shown from."""


def _views(
    console: Console,
    configuration: Configuration,
    rows: pd.DataFrame,
    fewer_steps: CellResult | None,
) -> list[Table]:
    """What the accelerators do for one configuration: one table where it fits, else the fastest
    within the limit and the targets each in its own."""
    title = configuration.title
    whole = f"{title}: fastest within the limit; least loss at each speedup"
    view = _configuration(whole, rows, fewer_steps, bounds=True, targets=True)
    unlimited = console.options.update(width=1000)
    if Measurement.get(console, unlimited, view).maximum <= console.width:
        return [view]
    bounds = _configuration(
        f"{title}: fastest within the limit", rows, fewer_steps, bounds=True, targets=False
    )
    targets = _configuration(
        "least loss at each speedup", rows, fewer_steps, bounds=False, targets=True
    )
    return [bounds, targets]


def _configuration(
    title: str, rows: pd.DataFrame, fewer_steps: CellResult | None, *, bounds: bool, targets: bool
) -> Table:
    """A row an accelerator, and their fewer-steps baseline in the last."""
    view = Table(title=title, title_justify="left", title_style="bold", header_style="underline")
    view.box, view.pad_edge, view.collapse_padding = None, False, True
    view.add_column("accelerators", min_width=12)
    asked = sorted(set(rows[rows["origin"] == "target"]["required"].dropna())) if targets else []
    columns = (
        ["speedup", "loss", "95% interval", *["fewer steps"] * bool(fewer_steps)] if bounds else []
    )
    for column in (*columns, *(f"at {target}x" for target in asked)):
        view.add_column(column, justify="right", no_wrap=True)
    if bounds:
        view.add_column("scripts", no_wrap=True)
    for name, cell in rows.groupby("accelerators", sort=False):
        best = _records(cell)[0]
        bound = [*_bound(*(best[f"bound{key}"] for key in BOUND))]
        bound += [_percent(best["bound_fewer_steps_loss"])] * bool(fewer_steps)
        reached = (_target(cell, target) for target in asked)
        view.add_row(str(name), *bound * bounds, *reached, *[_scripts(cell)] * bounds)
    if fewer_steps is not None and _title(fewer_steps) not in set(rows["accelerators"]):
        bound, least = _fewer_steps(fewer_steps, asked)
        view.add_row(_title(fewer_steps), *bound * bounds, *least, *[""] * bounds, style="dim")
    return view


def _bound(
    speedup: float, clear: bool, loss: float, low: float, high: float, beaten: object
) -> tuple[str, str, str]:
    if pd.isna(speedup):
        return "none", "", ""
    shown = f"{speedup:.2f}x{_doubt(clear)}"
    return shown, _percent(loss) + _star(beaten), f"{low:+.1%}..{high:+.1%}"


def _percent(loss: float) -> str:
    return "" if pd.isna(loss) else f"{loss:+.1%}"


def _star(beaten: object) -> str:
    """Marks what the fewer-steps baseline beats."""
    return "[yellow]*[/]" if beaten is True else ""


def _fewer_steps(fewer_steps: CellResult, targets: Sequence[float]) -> tuple[list[str], list[str]]:
    """The last row, what the fewer-steps baseline does by itself: its bound, and what it loses at
    each target."""
    best, limit, search = fewer_steps.bound, fewer_steps.loss_limit, fewer_steps.search
    cells = ("none", "", "")
    if best is not None:
        cells = _bound(best.speedup, fewer_steps.clear, best.loss, *best.loss_interval, False)
    held = [one for one in fewer_steps.front if search.decisive(one, limit) < limit]
    fast = [[one.loss for one in held if one.speedup >= target] for target in targets]
    least = [f"{min(losses):+.1%}" if losses else "-" for losses in fast]
    return [*cells, ""], least


def _title(fewer_steps: CellResult) -> str:
    return combination(fewer_steps.cell.accelerators).title


def _show_beaten(console: Console, cells: pd.DataFrame, fewer_steps: Sequence[CellResult]) -> None:
    """What the column of the fewer-steps baseline and the stars mean, and how many of these there
    are."""
    if not fewer_steps:
        return
    bounds = cells.drop_duplicates([*KEYS, "accelerators"])["bound_beaten"]
    known = pd.concat([bounds, cells["beaten"]]).dropna().astype(bool)
    title = _title(fewer_steps[0])
    worse = "use more of a limit" if _limited(cells) else "lose more"
    console.print(
        f"The column `fewer steps` has the loss of {title} alone, at least as fast. They were "
        f"compared with {len(known)} of the chosen candidates. A * marks the {int(known.sum())} "
        f"that {worse} than fewer steps do."
    )


def _limited(table: pd.DataFrame) -> bool:
    """Whether there are limits beside that of the loss."""
    return bool(table["limits"].fillna("").astype(bool).any())


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _short(parameters: str) -> str:
    """Parameters without their accelerators' names, which stand in the line already."""
    return " ".join(part.split(".", 1)[1] for part in parameters.split())


def _target(rows: pd.DataFrame, required: float) -> str:
    """The least loss at a required speedup, or a dash where it cannot be had."""
    found = _records(rows[(rows["origin"] == "target") & (rows["required"] == required)])
    met = [row for row in found if row["status"] == "met"]
    if not met:
        return f"[yellow]-[/]{_doubt(bool(found) and found[0]['clear'])}"
    best = met[0]
    return f"[green]{_percent(best['loss'])}[/]{_doubt(best['clear'])}{_star(best['beaten'])}"


def _doubt(clear: Any) -> str:
    """A mark where the prompts are too few to tell whether a loss is below the limit."""
    return "" if clear else "?"


def _scripts(rows: pd.DataFrame) -> str:
    """How many scripts are as fast as was asked, are not, or may be."""
    said = rows["verified"].value_counts()
    shown = (("met", "green", "ok"), ("not met", "red", "not"), ("undecided", "yellow", "unclear"))
    parts = [f"[{color}]{said[key]} {word}[/]" for key, color, word in shown if key in said]
    return ", ".join(parts)


def _show_held_out(console: Console, held: pd.Series[bool], *, limited: bool) -> None:
    """How often the limits are kept where nothing was chosen by them."""
    if held.empty:
        return
    low, high = share_interval(int(held.sum()), len(held))
    within = "all limits" if limited else "the limit of the loss"
    console.print(
        f"Held out: {int(held.sum())} of {len(held)} within {within} on prompts and seeds that the "
        f"search never used (95% interval {low:.0%} to {high:.0%})."
    )


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """95% interval of the share that so many hits of so many tell of: Wilson's."""
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _show_unmet(console: Console, table: pd.DataFrame) -> None:
    """The user's tasks without a script, each with its reason; of the made ones the number."""
    unmet = table[(table["status"] != "met") & (table["origin"] == "user")]
    for row in _records(unmet):
        reason = escape(str(row["reason"]).splitlines()[0])
        console.print(f"[yellow]no script[/] for {row['id']}: {reason}", highlight=False)
    for row in _records(table[table["verified"] == "not met"]):
        console.print(f"[red]not as asked[/] {row['id']}: {row['verification']}", highlight=False)
    made = table[table["origin"] == "bound"]
    missing = int((made["status"] != "met").sum())
    if missing:
        console.print(
            f"{missing} of {len(made)} tasks made from the upper bounds have no script. That is "
            "expected: they ask for up to 1.05 times the fastest that was found, or their "
            "accelerator is no faster than the baseline. summary.csv says which and why."
        )


def show_failures(results: str, log: str) -> None:
    """Prints which jobs failed, a line each with its log, and what is there all the same."""
    console = Console(stderr=True, highlight=False)
    show_summary(results)
    for path, line in failures(Path(results)):
        what = named(path.parent.name, path.stem)
        console.print(f"[red]failed[/] {escape(f'{what}: {line} (log: {path})')}", soft_wrap=True)
    console.print(f"The whole log: {log}", soft_wrap=True)


def failures(folder: Path) -> Iterable[tuple[Path, str]]:
    """Logs of jobs whose output is missing, each with its last line."""
    for path in sorted(folder.glob("logs/*/*.log")):
        kind = path.parent.name
        made = (folder / kind / f"{path.stem}.{suffix}" for suffix in ("json", "py", "txt"))
        if not any(each.exists() for each in made):
            yield path, last_line(path)


def calm_terminal() -> None:
    """Leaves out what Snakemake says each time it looks for jobs; it has no option for that."""
    jobs = ("Select jobs to execute", "Execute ", "Conda environments", "Using shell")
    checkpoints = ("DAG of jobs will be updated", "Updating checkpoint dependencies")
    noise = (*jobs, *checkpoints)
    logging.getLogger("snakemake.logging").addFilter(
        lambda record: not str(record.msg).startswith(noise)
    )
