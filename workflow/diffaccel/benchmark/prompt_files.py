"""The files of the benchmark: its prompts as JSON, as JSON lines, and the card of the data set."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffaccel.benchmark.prompt_set import (
    SAVED,
    Latency,
    Prompt,
    grid,
    least_speedup,
    measured,
    prompts,
)
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import SchedulerEntry
from diffaccel.experiment.tasks import Category, Request
from diffaccel.recipes.codegen import templates
from diffaccel.store.jsonio import RecordError, parse, write_output

SCRIPTS = {"gen": "gen_code", "anno": "gt_code"}
"""Start of a file's name -> folder of the scripts that it names."""
LINES, CARD = "prompts.jsonl", "README.md"
Parts = Mapping[Category, Sequence[Prompt]]


def json_name(start: str, kind: Category) -> str:
    """Name of the file of one category."""
    return f"{start}_{kind:d}_category.json"


NAMES = [*(json_name(start, kind) for start in SCRIPTS for kind in Category), LINES, CARD]
"""All files of the benchmark."""


def write(folder: Path, experiment: Experiment, only: Collection[Category] = ()) -> str:
    """Writes the benchmark; says what is in it.

    Args:
        experiment: whose measured latencies category V is made from.
        only: the files of these categories alone; else all files.

    Raises:
        RecordError: something that was measured cannot be read.
    """
    asked, latencies = grid(), measured(experiment)
    made = prompts(asked, latencies)
    parts = {kind: [each for each in made if each.category == kind] for kind in Category}
    for kind in only or Category:
        for start, scripts in SCRIPTS.items():
            entries = [_entry(prompt, scripts) for prompt in parts[kind]]
            write_output(folder / json_name(start, kind), _exactly(entries))
    if not only:
        write_output(folder / LINES, "".join(map(_line, made)))
        write_output(folder / CARD, _card(asked, parts, latencies, experiment.platform))
    counts = ", ".join(f"{len(parts[kind])} of category {kind:d}" for kind in only or Category)
    said = f"{folder}: prompts, {counts}"
    if not parts[Category.LATENCY] and (not only or Category.LATENCY in only):
        said += f"; it is made from measurements, and {experiment.platform} has none that fit yet"
    return said


def _entry(prompt: Prompt, scripts: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt.id,
        "category": int(prompt.category),
        "prompt_context": prompt.text,
        f"path_to_{scripts}": f"{scripts}/{prompt.id}.py",
    }


def _exactly(entries: Sequence[Mapping[str, Any]]) -> str:
    """The text of a file of one category. Others compare it byte for byte: it has neither the
    order of keys nor the last newline of our own records."""
    return json.dumps(entries, indent=2, ensure_ascii=False)


OWN = ("own_scheduler", "limits")
FIELDS = [name for name in Request.__dataclass_fields__ if name not in OWN]
"""Of a request, in a line. What a name stands for in somebody's configuration is not among them,
nor limits, which no prompt of ours names."""


def _line(prompt: Prompt) -> str:
    told = {
        "prompt_id": prompt.id,
        "category": int(prompt.category),
        "prompt_context": prompt.text,
        **{name: value for name, value in asdict(prompt.request).items() if name in FIELDS},
    }
    return json.dumps(told, allow_nan=False) + "\n"


def read(path: Path) -> list[Prompt]:
    """The prompts in a file of JSON lines.

    Raises:
        InputError: it is not there, or a line is not as `write` makes it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: {error}; `snakemake prompts` makes it") from None
    return [_read(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _read(line: str, where: str) -> Prompt:
    try:
        told = json.loads(line)
        number, text = int(told.pop("prompt_id")), told.pop("prompt_context")
        category = told.pop("category")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{where}: not a prompt ({error!r}); make the file again") from None
    prompt = Prompt(number, parse(Request, told, where))
    if (prompt.text, prompt.category) != (text, category):
        raise RecordError(f"{where}: the sentence asks for something else than the fields")
    return prompt


def _card(asked: Experiment, parts: Parts, latencies: Sequence[Latency], platform: str) -> str:
    config = asked.config
    return (
        templates()
        .get_template("benchmark.md.jinja")
        .render(
            parts=[(int(kind), parts[kind]) for kind in Category],
            models=_listed(
                dict.fromkeys(
                    configuration.model for configuration in asked.configurations.values()
                )
            ),
            schedulers=_listed(map(_name, config.schedulers)),
            steps=_listed(config.steps),
            accelerators="; ".join(config.accelerators),
            speedups=_listed(config.speedups),
            max_loss=config.loss_limit,
            saved=_listed(f"{share:.0%}" for share in SAVED),
            least=least_speedup(asked),
            latencies=latencies,
            platform=platform,
        )
    )


def _listed(values: Iterable[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} and {last}" if others else last


def _name(entry: str | SchedulerEntry) -> str:
    return entry if isinstance(entry, str) else entry.name
