"""What a run shows at its end: the table of cells, and what failed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.table import Table

from diffaccel.jsonio import RecordError, read_record
from diffaccel.records import Search, SpeedRecord
from diffaccel.space import in_words
from diffaccel.stages.collect import summary

log = logging.getLogger(__name__)


def load(folder: Path) -> pd.DataFrame:
    """The summary of whatever lies in a results folder."""
    return summary(
        sorted(folder.glob("search/*.json")),
        sorted(folder.glob("verify/*.json")),
    )


def show_summary(results: str | Path) -> None:
    """Prints, cell by cell, the bound, the targets and the scripts, and where everything lies."""
    folder = Path(results)
    console = Console()
    timed = _show_speeds(console, folder)
    table = load(folder)
    if table.empty:
        console.print(f"no other results in {folder}" if timed else f"no results in {folder} yet")
        return
    cells = table.dropna(subset=["model"])
    console.print()
    for group, rows in cells.groupby(KEYS, sort=False):
        model, scheduler, steps = map(str, group)
        console.print(
            _setup(
                f"{model}, {scheduler}, {float(steps):g} steps: bound; least loss at each speedup",
                rows,
            )
        )
        for name, cell in rows.groupby("accelerators", sort=False):
            if setting := _records(cell)[0]["bound_setting"]:
                console.print(f"  [dim]{name}: {_short(setting)}[/]", highlight=False)
        console.print()
    _show_unmet(console, table)
    if not table[["clear", "bound_clear"]].fillna(True).all(axis=None):
        console.print("?: too few prompts to tell on which side of the limit the loss lies.")
    proven = table["verified"].dropna().astype(bool)
    console.print(
        f"[bold]{len(proven)} scripts verified, {int(proven.sum())} keep what they promise.[/]\n"
        f"{folder}/summary.csv has every number; code/ the scripts; verify/ their proofs; "
        "speedup_bounds.json and search_params.json the stores; tasks/tasks.json the tasks."
    )


def _show_speeds(console: Console, folder: Path) -> bool:
    """Prints what was timed on untrained models; whether there is any."""
    paths = sorted(folder.glob("speed/*.json"))
    for path in paths:
        record = read_record(SpeedRecord, path)
        view = Table(header_style="underline", box=None, pad_edge=False)
        view.add_column("speedup", justify="right")
        view.add_column("setting")
        for row in record.rows:
            setting = in_words(row.setting)
            speedup = "[yellow]-[/]" if row.speedup is None else f"{row.speedup:.2f}x"
            view.add_row(speedup, f"{setting or 'none'}{f': {row.failure}' if row.failure else ''}")
        console.print(
            f"\n[bold]{record.setup.slug}, untrained: {record.seconds:.3f} s a call, "
            f"{record.share:.0%} of the device's ceiling; speed alone, no score[/]",
            highlight=False,
            soft_wrap=True,
        )
        console.print(view)
    return bool(paths)


KEYS = ["model", "scheduler", "steps"]


def _setup(title: str, rows: pd.DataFrame) -> Table:
    """What the accelerators do for one setup, a row each."""
    view = Table(title=title, title_justify="left", title_style="bold", header_style="underline")
    view.box, view.pad_edge, view.collapse_padding = None, False, True
    for column in ("accelerators", "bound", "loss", "95% interval"):
        justify: JustifyMethod = "left" if column == "accelerators" else "right"
        view.add_column(column, justify=justify, no_wrap=True)
    targets = sorted(set(rows[rows["origin"] == "target"]["required"].dropna()))
    for target in targets:
        view.add_column(f"at {target}x", justify="right", no_wrap=True)
    view.add_column("scripts", no_wrap=True)
    for name, cell in rows.groupby("accelerators", sort=False):
        best = _records(cell)[0]
        none = pd.isna(best["bound"])
        view.add_row(
            str(name),
            "none" if none else f"{best['bound']:.2f}x{_doubt(best['bound_clear'])}",
            "" if none else f"{best['bound_loss']:+.1%}",
            "" if none else f"{best['bound_loss_low']:+.1%}..{best['bound_loss_high']:+.1%}",
            *(_target(cell, target) for target in targets),
            _scripts(cell),
        )
    return view


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _short(setting: str) -> str:
    """Parameters without their accelerators' names, which stand in the line already."""
    return " ".join(part.split(".", 1)[1] for part in setting.split())


def _target(rows: pd.DataFrame, required: float) -> str:
    """The least loss at a required speedup, or a dash where it cannot be had."""
    found = _records(rows[(rows["origin"] == "target") & (rows["required"] == required)])
    met = [row for row in found if row["status"] == "met"]
    if not met:
        return f"[yellow]-[/]{_doubt(bool(found) and found[0]['clear'])}"
    return f"[green]{met[0]['loss']:+.1%}[/]{_doubt(met[0]['clear'])}"


def _doubt(clear: Any) -> str:
    """A mark where the prompts do not tell on which side of the limit a loss lies."""
    return "" if clear else "?"


def _scripts(rows: pd.DataFrame) -> str:
    """How many scripts were proven, and how many were not."""
    proven = rows["verified"].dropna().astype(bool)
    kept, broken = int(proven.sum()), int((~proven).sum())
    parts = [f"[green]{kept} ok[/]"] * bool(kept) + [f"[red]{broken} not[/]"] * bool(broken)
    return ", ".join(parts)


def _show_unmet(console: Console, table: pd.DataFrame) -> None:
    """The user's tasks without a script, each with its reason; of the made ones the number."""
    unmet = table[(table["status"] != "met") & (table["origin"] != "target")]
    for row in _records(unmet[unmet["origin"] == "user"]):
        console.print(f"[yellow]no script[/] for {row['id']}: {row['reason']}", highlight=False)
    for row in _records(table[table["verdict"].fillna("") != ""]):
        console.print(f"[red]not as promised[/] {row['id']}: {row['verdict']}", highlight=False)
    made = table[table["origin"] == "bound"]
    missing = int((made["status"] != "met").sum())
    if missing:
        console.print(
            f"{missing} of {len(made)} tasks made from the bounds have no script: the stored bound "
            "is 1.1 times what was measured, and 95% of that was not reached; or there is no "
            "speedup to ask for. summary.csv says which and why."
        )


def show_failures(results: str, log: str) -> None:
    """Prints which jobs failed, a line each with its log, and what is there all the same."""
    console = Console(stderr=True)
    show_summary(results)
    for path, line in failures(Path(results)):
        console.print(f"[red]failed[/] {path.stem}: {line} [dim](log: {path})[/]")
    console.print(f"The whole log: {log}")


def failures(folder: Path) -> Iterable[tuple[Path, str]]:
    """Logs of jobs whose output is missing, each with its last line."""
    for path in sorted(folder.glob("logs/*/*.log")):
        kind = path.parent.name
        made = folder / kind / f"{path.stem}.{'py' if kind == 'code' else 'json'}"
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not made.exists() and lines:
            yield path, lines[-1]


def say_progress(done: Path, total: int) -> None:
    """Logs how many (model, scheduler, steps) are decided, and about how long the others take."""
    known = []
    for path in sorted(done.glob("*.json")):
        # What another job left broken is that job's failure, not this one's.
        with contextlib.suppress(RecordError):
            found = read_record(Search, path)
            if found.setup is not None:
                known.append(found.cells)
    left = max(0, total - len(known))
    seconds = left * sum(cell.seconds for cells in known for cell in cells) / max(1, len(known))
    log.info(
        "%d of %d searched%s",
        len(known),
        total,
        f", about {seconds / 60:.0f} min of searching left" if left else "",
    )


def calm_terminal() -> None:
    """Leaves out what Snakemake says each time it looks for jobs; no setting of its own does."""
    noise = ("Select jobs to execute", "Execute ", "Conda environments", "Using shell")
    logging.getLogger("snakemake.logging").addFilter(
        lambda record: not str(record.msg).startswith(noise)
    )
