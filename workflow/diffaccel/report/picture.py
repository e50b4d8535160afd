"""A picture of what comes out: the baseline's images above those of generated scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from diffaccel.errors import InputError
from diffaccel.evaluation.bench import be_quiet
from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.accelerators import combination
from diffaccel.search.records import Answer
from diffaccel.stages import collect
from diffaccel.stages.script import load_script
from diffaccel.store.jsonio import read_record

GAP, LABEL, CAPTION, FONT = 8, 170, 44, 13
"""Pixels: between images, of the row labels' column, of the captions' row, of the font."""


def draw(results: Sequence[Path], ids: Sequence[str], columns: int, out: Path) -> None:
    """Writes the picture: the first prompts as columns; the baseline and each task's script as
    rows, all of one configuration.

    Args:
        results: folders of a platform, e.g. ``results/cpu``, with the same baseline; the tasks of
            one stand below those of the one before it.
        ids: of tasks that were met.

    Raises:
        InputError: a task has no script, or the tasks are not of one configuration, or not beside
            the same baseline.
    """
    answers = [(folder, answer) for folder in results for answer in _answers(folder, ids)]
    configurations = {
        answer.task.cell.configuration for _, answer in answers if answer.task.cell is not None
    }
    if len(configurations) != 1:
        raise InputError(f"tasks of one (model, scheduler, steps) are needed; got {list(ids)}")
    slug, first = configurations.pop().slug, results[0]
    known = [read_record(Baseline, folder / "baseline" / f"{slug}.json") for folder in results]
    baseline = known[0]
    if len({each.digest for each in known}) > 1:
        raise InputError(
            f"the results of {', '.join(map(str, results))} were measured beside different "
            "baselines; of each draw a picture of its own"
        )
    prompts = baseline.texts[:columns]
    plain = [Image.open(first / "baseline" / slug / f"{i:03}.png") for i in range(len(prompts))]
    rows: list[tuple[str, list[Image.Image]]] = [("baseline", [*plain])]
    for folder, answer in answers:
        rows.append((_label(answer), _images(folder, answer, baseline, prompts)))
    compose(rows, prompts).save(out, optimize=True)


def _answers(results: Path, ids: Sequence[str]) -> list[Answer]:
    """Those of these tasks, in their order."""
    searches = collect.load(results.glob("search/*.json"))
    found = {answer.task.id: answer for answer in collect.answers(searches)}
    if missing := [name for name in ids if name not in found]:
        raise InputError(f"no such tasks in {results}: {missing}")
    return [found[name] for name in ids]


def _label(answer: Answer) -> str:
    if answer.chosen is None or answer.task.cell is None:
        raise InputError(f"task {answer.task.id} has no script: {answer.reason}")
    title, chosen = combination(answer.task.cell.accelerators).title, answer.chosen
    limits = "".join(f"\n{words}" for words in chosen.used)
    return f"{title}\n{chosen.speedup:.2f}x, loss {chosen.loss:+.1%}{limits}"


def _images(
    results: Path, answer: Answer, baseline: Baseline, prompts: list[str]
) -> list[Image.Image]:
    script = results / "code" / f"{answer.task.id}.py"
    if not script.is_file():
        raise InputError(f"there is no {script}; make it with: snakemake --cores all {script}")
    be_quiet()
    module = load_script(script)
    pipe = module.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    seeds = [baseline.options.seed + number for number in range(len(prompts))]
    made: list[Image.Image] = module.generate(pipe, prompts, seeds)
    return made


def compose(rows: list[tuple[str, list[Image.Image]]], prompts: list[str]) -> Image.Image:
    """Rows of images with a label each, below the prompts; all images are of one size, and a blank
    sheet where there are none."""
    if not rows:
        return Image.new("RGB", (LABEL, CAPTION), "white")
    width, height = rows[0][1][0].size
    size = (LABEL + len(prompts) * (width + GAP), CAPTION + len(rows) * (height + GAP))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    small = ImageFont.load_default(FONT - 3)
    for column, prompt in enumerate(prompts):
        text = "\n".join(textwrap.wrap(prompt, width // 5)[:3])
        pen.text((LABEL + column * (width + GAP), 2), text, "black", small)
    for row, (label, images) in enumerate(rows):
        top = CAPTION + row * (height + GAP)
        wrapped = "\n".join(
            line for part in label.split("\n") for line in textwrap.wrap(part, LABEL // 8)
        )
        pen.text((4, top + height // 3), wrapped, "black", font)
        for column, image in enumerate(images):
            sheet.paste(image, (LABEL + column * (width + GAP), top))
    return sheet
