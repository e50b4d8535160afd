"""Which scripts there are to judge: prompts from a file, scripts from a folder."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.schedulers import SchedulerSpec


@dataclass(frozen=True)
class Asked:
    """A task whose script is to be judged.

    Args:
        id: the script is called ``<id>.py``.
        sentence: what was asked.
    """

    id: str
    sentence: str


def read_asked(path: Path) -> list[Asked]:
    """The prompts of a file: a JSON list of records, or one record a line.

    A record has a ``prompt_id`` and a ``prompt_context``, as in ``gen_4_category.json``.

    Raises:
        InputError: the file cannot be read, or has no such records.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        whole = text.lstrip().startswith("[")
        # Not splitlines: a line of JSON may hold U+2028 and the like.
        lines = [row for row in text.split("\n") if row.strip()]
        rows = json.loads(text) if whole else [json.loads(row) for row in lines]
        found = [_asked(row) for row in rows]
    except OSError as error:
        raise InputError(
            f"prompts {path}: cannot be read ({error.strerror}); `snakemake prompts` makes the "
            "benchmark's own"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"prompts {path}: not a list of records with prompt_id and prompt_context ({error!r})"
        ) from None
    name, times = Counter(each.id for each in found).most_common(1)[0] if found else ("", 0)
    if times > 1:
        raise InputError(f"prompts {path}: the prompt_id {name!r} is listed twice")
    return found


def _asked(row: Any) -> Asked:
    name, sentence = row["prompt_id"], row["prompt_context"]
    if not isinstance(name, str) or not isinstance(sentence, str):
        raise TypeError(row)
    if Path(name).name != name or name in (".", ".."):
        raise ValueError(f"{name!r} is not the name of a script")
    return Asked(name, sentence)


@dataclass(frozen=True)
class Given:
    """The scripts of a folder, by what they are judged with.

    Args:
        configurations: scripts' tasks by configuration.
        absent: ids of prompts that have no script.
        unparsed: scripts whose prompts are not understood, each with what is wrong.
    """

    configurations: dict[Configuration, list[Asked]]
    absent: list[str]
    unparsed: list[tuple[Asked, str]] = field(default_factory=list)

    def without(self, tasks: Mapping[str, str]) -> Given:
        """The same, where none of the models that have a task of their own can be judged: the
        sentences ask for text-to-image.

        Args:
            tasks: by the name of a model.
        """
        left = {each: own for each, own in self.configurations.items() if each.model not in tasks}
        refused = [
            (asked, REFUSED.format(configuration.model, tasks[configuration.model]))
            for configuration, own in self.configurations.items()
            if configuration not in left
            for asked in own
        ]
        return Given(left, self.absent, self.unparsed + refused)


REFUSED = (
    "the model {!r} has the task {!r} in this configuration, and what is judged is text-to-image: "
    "judge it in one where the model has no `task`"
)


def given(
    prompts: Path, scripts: Path, models: Sequence[str], schedulers: Mapping[str, SchedulerSpec]
) -> Given:
    """What there is to judge.

    Args:
        models: names of the known ones.
        schedulers: a user's own.

    Raises:
        InputError: the prompts cannot be read, or the folder has no script of any.
    """
    found: dict[Configuration, list[Asked]] = defaultdict(list)
    absent, unparsed = [], []
    for asked in read_asked(prompts):
        if not os.path.lexists(scripts / f"{asked.id}.py"):
            absent.append(asked.id)
            continue
        try:
            request = tasks.parse(asked.sentence, models, schedulers)
            if request.limits:
                named = ", ".join(each.words for each in request.limits)
                raise tasks.TaskError(
                    f"limits of other metrics are not judged, only the loss is: {named}"
                )
            found[request.configuration].append(asked)
        except tasks.TaskError as error:
            unparsed.append((asked, str(error)))
    if not found and not unparsed:
        raise InputError(
            f"there is nothing to judge: {scripts} has no <prompt_id>.py of a prompt in {prompts}"
        )
    return Given(dict(found), absent, unparsed)
