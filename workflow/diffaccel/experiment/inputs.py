"""The images that prompts come with: which file belongs to which prompt, and what it holds.

A prompt file names them in the columns ``image`` and ``mask``. Where it has no column ``image``,
the files of the folder but masks, sorted by name, belong to the prompts in their order. Where it
has no column ``mask``, the mask of ``NAME.png`` is ``NAME_mask.png``, or ``NAME_mask`` with another
ending of images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.experiment.prompts import (
    Prompt,
    PromptLine,
    as_line,
    read_prompts,
    read_unseen,
    unseen,
)
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, PipelineTask

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the files that are taken for images, in upper or lower case."""


class InputsError(InputError):
    """The images that a model's prompts come with are missing, too few or not readable."""


@dataclass(frozen=True)
class _Source:
    """Where prompts with images come from.

    Args:
        path: of the prompts.
        folder: of the images.
        in_order: whether files belong to the prompts in their order, where no column names them.
        key: the model's key that names the folder.
    """

    path: Path
    folder: Path
    task: PipelineTask
    in_order: bool = True
    key: str = "inputs"

    @classmethod
    def measured(cls, spec: ModelSpec) -> _Source:
        """Those that are measured with."""
        return cls(Path(spec.prompts), Path(str(spec.inputs)), PIPELINE_TASKS[str(spec.task)])

    @classmethod
    def heldout(cls, spec: ModelSpec) -> _Source:
        """Those that nothing is chosen by."""
        measured = cls.measured(spec)
        if spec.heldout is None:
            return measured
        own = spec.heldout_inputs is not None
        key = "heldout_inputs" if own else "inputs"
        return cls(Path(spec.heldout), heldout_folder(spec), measured.task, own, key)


def prompts_of(spec: ModelSpec, count: int, most: int = 0) -> list[Prompt]:
    """The prompts that a model is measured with, as `read_prompts` has them; for a task with their
    images, as many as there are images, and each read once.

    Raises:
        PromptError: the prompts cannot be read, or are too few.
        InputsError: an image is missing or cannot be read.
    """
    if spec.task is None:
        return read_prompts(Path(spec.prompts), count, most)
    source = _Source.measured(spec)
    return [_read(each, source) for each in _placed(source, count, most)]


def heldout_of(spec: ModelSpec, count: int, seen: Collection[Prompt]) -> list[Prompt]:
    """The prompts that nothing is chosen by, as `read_unseen` has them; for a task with their
    images: the same text with another image is another prompt.

    Raises:
        PromptError, InputsError: as of `prompts_of`.
    """
    if spec.task is None or not count:
        return read_unseen(Path(spec.heldout or spec.prompts), count, seen)
    source = _Source.heldout(spec)
    found = _placed(source, 0, count + len(seen))
    return unseen([_read(each, source) for each in found], count, seen)


def heldout_folder(spec: ModelSpec) -> Path:
    """Where the images of held-out prompts are."""
    return Path(str(spec.heldout_inputs or spec.inputs))


def count_of(spec: ModelSpec, count: int, most: int = 0) -> int:
    """How many prompts `prompts_of` gives. Of their images, no more is read than that they are
    there.

    Raises:
        PromptError, InputsError: as of `prompts_of`.
    """
    if spec.task is None:
        return len(read_prompts(Path(spec.prompts), count, most))
    return len(_placed(_Source.measured(spec), count, most))


def check(spec: ModelSpec, count: int, most: int, *, heldout: bool) -> None:
    """Whether all images of a task's prompts are there. Of their files, headers alone are read.

    Args:
        count, most: prompts that are measured with, at least and at most.
        heldout: whether there are to be others that nothing is chosen by.

    Raises:
        PromptError, InputsError: as of `prompts_of`.
    """
    sources = [(_Source.measured(spec), count, most)]
    if heldout and spec.heldout is not None:
        sources.append((_Source.heldout(spec), 1, count))
    for source, least, most in sources:
        for line in _placed(source, least, most):
            for each in source.task.inputs:
                check_image(source.folder / getattr(line, each.name), whole=False)


def files_of(folder: str | None) -> list[str]:
    """All images in a folder and below, sorted; of no folder, none."""
    every = Path(folder).rglob("*") if folder else ()
    return sorted(str(path) for path in every if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _placed(source: _Source, count: int, most: int) -> list[PromptLine]:
    """Prompts with the names of their files.

    Args:
        count: how many there must be.
        most: how many there may be.
    """
    names = [each.name for each in source.task.inputs]
    lines = [as_line(each) for each in read_prompts(source.path, count, most, names)]
    if not source.folder.is_dir():
        raise InputsError(f"{source.key}: there is no folder {str(source.folder)!r}")
    if not any(line.image for line in lines):
        lines = _in_order(lines, source, count)
    lines = [replace(line, **_beside(line, source)) for line in lines]
    for line in lines:
        for name in names:
            if not (source.folder / getattr(line, name)).is_file():
                raise InputsError(
                    f"{source.key}: {source.folder} has no {getattr(line, name)}, the {name} of "
                    f"{line.prompt!r} in {source.path}"
                )
    return lines


def _in_order(lines: Sequence[PromptLine], source: _Source, count: int) -> list[PromptLine]:
    """Each prompt with the next file of the folder, as far as there are some."""
    if not source.in_order:
        raise InputsError(
            f"the held-out prompts of {source.path} name no images: set `heldout_inputs` to the "
            "folder of their images, or add a column `image` to the file"
        )
    every = (each for task in PIPELINE_TASKS.values() for each in task.inputs)
    beside = tuple(each.ending for each in every if each.ending)  # masks, whatever the task
    images = sorted(
        path.name
        for path in source.folder.iterdir()
        if _is_image(path) and not path.stem.endswith(beside)
    )
    if len(images) < count:
        raise InputsError(
            f"{source.key}: {source.folder} has {len(images)} images, and {count} prompts are "
            "asked for, each with one of its own; add some, lower measure.prompts, or name them in "
            f"a column `image` of the prompts. Images end in {', '.join(SUFFIXES)}"
        )
    return [replace(line, image=name) for line, name in zip(lines, images, strict=False)]


def _beside(line: PromptLine, source: _Source) -> dict[str, Any]:
    """The files of a prompt besides its image that its line does not name, by input."""
    image, found = Path(str(line.image)), dict[str, Any]()
    for each in source.task.inputs[1:]:
        if getattr(line, each.name) is not None:
            continue
        names = [image.with_name(f"{image.stem}{each.ending}{suffix}") for suffix in SUFFIXES]
        there = [name for name in names if (source.folder / name).is_file()]
        if not there:
            raise InputsError(
                f"{source.key}: {source.folder} has no {each.name} of {image}: call it "
                f"{names[0].name}, or name it in a column `{each.name}` of the prompts"
            )
        found[each.name] = there[0].as_posix()
    return found


def _read(line: PromptLine, source: _Source) -> PromptLine:
    """A prompt with the hash of its files, which are whole images."""
    total = hashlib.sha256()
    for each in source.task.inputs:
        path = source.folder / getattr(line, each.name)
        check_image(path)
        total.update(path.read_bytes())
    return replace(line, inputs=total.hexdigest()[:16])


def check_image(path: Path, *, whole: bool = True) -> None:
    """Whether a file is an image.

    Args:
        whole: all of it is read, and not its header alone.

    Raises:
        InputsError: it is none, or is not whole.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if whole:
                image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputsError(f"{path} cannot be read as an image: {error}") from None
