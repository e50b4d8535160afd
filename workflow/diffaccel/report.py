"""What a run shows at its end: the table of cells, and what failed."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diffaccel.jsonio import RecordError, read_record
from diffaccel.records import Frontier
from diffaccel.stages.collect import summary

log = logging.getLogger(__name__)


def load(folder: Path) -> pd.DataFrame:
    """The summary of whatever lies in a results folder."""
    return summary(
        sorted(folder.glob("frontier/*.json")),
        sorted(folder.glob("answers/*.json")),
        sorted(folder.glob("verify/*.json")),
    )


def show_summary(results: str) -> None:
    """Prints, cell by cell, the bound, the targets and the scripts, and where everything lies."""
    folder = Path(results)
    console = Console()
    table = load(folder)
    if table.empty:
        return
    cells = table.dropna(subset=["model"])
    console.print()
    for group, rows in cells.groupby(KEYS, sort=False):
        model, scheduler, steps = map(str, group)
        console.print(_setup(f"{model}, {scheduler}, {float(steps):g} steps", rows))
    _show_unmet(console, table)
    proven = table["verified"].dropna().astype(bool)
    console.print(
        f"[bold]{len(proven)} scripts verified, {int(proven.sum())} keep what they promise.[/]\n"
        f"{folder}/summary.csv has every number; code/ the scripts; verify/ their proofs; "
        "speedup_bounds.json and search_params.json the stores; tasks/tasks.json the tasks."
    )


KEYS = ["model", "scheduler", "steps"]


def _setup(title: str, rows: pd.DataFrame) -> Table:
    """What the accelerators do for one setup: a line each."""
    view = Table(
        title=title, title_justify="left", title_style="bold", header_style="", box=SIMPLE_HEAD
    )
    view.add_column("accelerators")
    view.add_column("bound", justify="right")
    view.add_column("loss, 95% interval", justify="right")
    view.add_column("parameters", ratio=1)
    targets = sorted(set(rows[rows["origin"] == "target"]["required"].dropna()))
    for target in targets:
        view.add_column(f"{target}x", justify="right")
    view.add_column("scripts")
    for title_of_cell, cell in rows.groupby("accelerators", sort=False):
        best = _fastest(cell)
        view.add_row(
            str(title_of_cell),
            "none" if best is None else f"{best['speedup']:.2f}x",
            "" if best is None else _loss(best),
            "" if best is None else _short(best["setting"]),
            *(_target(cell, target) for target in targets),
            _scripts(cell),
        )
    return view


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _fastest(rows: pd.DataFrame) -> dict[str, Any] | None:
    met = _records(rows[rows["status"] == "met"])
    return max(met, key=lambda row: row["speedup"], default=None)


def _loss(row: dict[str, Any]) -> str:
    return f"{row['loss']:+.1%} ({row['loss_low']:+.1%}..{row['loss_high']:+.1%})"


def _short(setting: str) -> str:
    """Parameters without their accelerators' names, which stand in the line already."""
    return re.sub(r"\b\w+\.", "", setting)


def _target(rows: pd.DataFrame, required: float) -> str:
    """The least loss at a required speedup, or a dash where it cannot be had."""
    found = _records(rows[(rows["origin"] == "target") & (rows["required"] == required)])
    met = [row for row in found if row["status"] == "met"]
    return f"[green]{met[0]['loss']:+.1%}[/]" if met else "[yellow]-[/]"


def _scripts(rows: pd.DataFrame) -> str:
    proven = rows.dropna(subset=["verified"])
    kept = int(proven["verified"].astype(bool).sum())
    bad = [row for row in _records(proven) if not row["verified"]]
    lines = [f"[green]{kept} ok[/]"] if kept else []
    return "\n".join(lines + [f"[red]{row['verdict']}[/]" for row in bad])


def _show_unmet(console: Console, table: pd.DataFrame) -> None:
    """Tasks without a script, together where the reason is the same."""
    unmet = table[(table["status"] != "met") & (table["origin"] != "target")]
    for reason, rows in unmet.groupby("reason", sort=False):
        names = f"{rows['id'].iloc[0]}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
        console.print(f"[yellow]no script[/] {names}: {reason}", highlight=False)


def show_failures(results: str, log: str) -> None:
    """Prints which jobs failed, a line each with its log, and what is there all the same."""
    console = Console(stderr=True)
    show_summary(results)
    for path, line in failures(Path(results)):
        console.print(f"[red]failed[/] {path.stem}: {line} [dim](log: {path})[/]")
    console.print(f"The whole log: {log}")


def failures(folder: Path) -> Iterable[tuple[Path, str]]:
    """Logs of jobs whose output is missing, each with its last line."""
    outputs = {"verify": "json", "frontier": "json", "answers": "json", "code": "py"}
    outputs["baseline"] = "json"
    for path in sorted(folder.glob("logs/*/*.log")):
        kind = path.parent.name
        made = folder / kind / f"{path.stem}.{outputs.get(kind, 'json')}"
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not made.exists() and lines:
            yield path, lines[-1]


def say_progress(done: Path, total: int) -> None:
    """Logs how many cells are decided, and about how long the others will take."""
    known = []
    for path in sorted(done.glob("*.json")):
        # What another job left broken is that job's failure, not this one's.
        with contextlib.suppress(RecordError):
            known.append(read_record(Frontier, path))
    left = max(0, total - len(known))
    seconds = left * sum(record.seconds for record in known) / max(1, len(known))
    log.info(
        "%d of %d cells decided%s",
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
