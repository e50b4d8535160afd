"""What a run shows at its end: the table of cells, and what failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from diffaccel.stages.collect import summary


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
    console.print(_cells(cells))
    _show_unmet(console, table)
    proven = table["verified"].dropna()
    console.print(
        f"{len(proven)} scripts verified, {int(proven.sum())} keep what they promise. "
        f"Everything is in [bold]{folder}[/]: summary.csv, speedup_bounds.json, "
        "search_params.json, tasks/tasks.json, code/, verify/"
    )


def _cells(table: pd.DataFrame) -> Table:
    view = Table(title="How far each cell can go, and what it takes", title_justify="left")
    for name in ("model", "scheduler, steps", "accelerators"):
        view.add_column(name)
    view.add_column("bound", justify="right")
    view.add_column("loss (interval)", justify="right")
    view.add_column("parameters")
    view.add_column("targets")
    view.add_column("scripts")
    keys = ["model", "scheduler", "steps", "accelerators"]
    for group, rows in table.groupby(keys, sort=False):
        model, scheduler, steps, title = map(str, group)
        best = _fastest(rows)
        view.add_row(
            model,
            f"{scheduler}, {float(steps):g}",
            title,
            "none" if best is None else f"{best['speedup']:.2f}x",
            "" if best is None else _loss(best),
            "" if best is None else _short(best["setting"]),
            _targets(rows[rows["origin"] == "target"]),
            _scripts(rows[rows["status"] == "met"]),
        )
    return view


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _fastest(rows: pd.DataFrame) -> dict[str, Any] | None:
    met = rows[rows["status"] == "met"]
    return None if met.empty else max(_records(met), key=lambda row: row["speedup"])


def _loss(row: dict[str, Any]) -> str:
    return f"{row['loss']:+.2%} ({row['loss_low']:+.1%} to {row['loss_high']:+.1%})"


def _short(setting: str) -> str:
    return re.sub(r"\b\w+\.", "", setting).replace(" ", "\n")


def _targets(rows: pd.DataFrame) -> str:
    marks = {"met": "[green]met[/]", "infeasible": "[yellow]no[/]"}
    return "\n".join(f"{row['required']}x {marks[row['status']]}" for row in _records(rows))


def _scripts(rows: pd.DataFrame) -> str:
    lines = []
    for row in _records(rows):
        if row["verified"] is None or pd.isna(row["verified"]):
            continue
        mark = "[green]ok[/]" if row["verified"] else f"[red]{row['verdict']}[/]"
        lines.append(f"{row['required']}x: {row['verified_speedup']:.2f}x {mark}")
    return "\n".join(lines)


def _show_unmet(console: Console, table: pd.DataFrame) -> None:
    unmet = table[(table["status"] != "met") & (table["origin"] != "target")]
    for row in _records(unmet):
        console.print(f"[yellow]no script[/] {row['id']}: {row['reason']}")


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
