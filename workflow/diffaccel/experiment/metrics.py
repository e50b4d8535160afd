"""The metrics that a configuration names: what entries stand for, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.experiment.limits import Limit, limits_of
from diffaccel.experiment.prompts import Prompt, texts_of
from diffaccel.experiment.schema import Config, MetricEntry
from diffaccel.plugins.metric_choice import MetricChoice
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.sources import is_local, is_single_file
from diffaccel.registry import Registry, suggest

if TYPE_CHECKING:
    from diffaccel.plugins.metrics import Metric

Entries = Sequence[str | MetricEntry]


def _metrics() -> Registry[Metric]:
    """All metrics. Numpy comes with them, and a configuration that names none is read without, in
    each process of a run."""
    from diffaccel.plugins.metrics import METRICS

    return METRICS


def metric_choices(entries: Entries) -> tuple[MetricChoice, ...]:
    """The metrics that are computed beside the usual ones, whatever their order.

    Raises:
        UnknownNameError: a metric is not known.
    """
    more = {each.name: each.source for each in _named(entries) if not _metrics()[each.name].usual}
    return tuple(_choice(name, source) for name, source in sorted(more.items()))


def _choice(name: str, source: str | None) -> MetricChoice:
    metric = _metrics()[name]
    return MetricChoice(name, (source or metric.source) if metric.needs_source else None)


def metrics_for(config: Config, model: str, asked: Iterable[Limit] = ()) -> list[str | MetricEntry]:
    """The metrics that are named, and those of a model's limits.

    Args:
        asked: limits of its tasks.

    Raises:
        ValueError: a limit is wrong.
    """
    named = {each.name for each in _named(config.metrics)}
    limits = dict.fromkeys(each.metric for each in (*limits_of(config, model), *asked))
    return [*config.metrics, *(metric for metric in limits if metric not in named)]


def scored_by(entries: Entries, spec: ModelSpec) -> ModelSpec:
    """A model whose images are scored by these besides; an untrained one generates noise."""
    return spec if spec.untrained else replace(spec, metrics=metric_choices(entries))


def _named(entries: Entries) -> list[MetricEntry]:
    return [MetricEntry(name=each) if isinstance(each, str) else each for each in entries]


def wrong_metrics(entries: Entries) -> list[str]:
    """Names that stand for nothing, and sources that cannot be: a line each."""
    given = _named(entries)
    names = [each.name for each in given]
    twice = [f"metrics: {name!r} is listed twice" for name in names if names.count(name) > 1]
    problems = [_wrong_metric(each) for each in given]
    return [f"metrics: {line}" for line in problems if line] + twice[:1]


def _wrong_metric(entry: MetricEntry) -> str | None:
    from diffaccel.plugins.metrics import SCORE

    name, source = entry.name, entry.source
    if name not in (known := _metrics()):
        return f"unknown metric {name!r}; {suggest(name, known)}"
    metric = known[name]
    if name == SCORE and source is not None:
        return f"the weights of {name} are the `scorer` of a model: name them there"
    if not metric.needs_source and source is not None:
        return f"{name} has no weights: leave out its source"
    if not metric.needs_source or (source is None and metric.source is not None):
        return None
    if source is None:
        return (
            f"{name} needs a source: we found no safetensors of its weights on a hub. Write "
            f"{{name: {name}, source: /path/to/folder}}; docs/reference/metrics.md says how to "
            "make the folder"
        )
    if is_single_file(source):
        return f"{name}: the source must be a folder or a hub id; {source!r} is a file"
    if is_local(source) and not Path(source).is_dir():
        return f"{name}: there is no folder {source!r}; a hub id is owner/name"
    return None


def refused(entries: Entries, spec: ModelSpec, read: Mapping[str, Sequence[Prompt]]) -> list[str]:
    """Why metrics cannot score the images of a model: a line each.

    Args:
        read: the prompts of each file.
    """
    files = [path for path in (spec.prompts, spec.heldout) if path is not None and path in read]
    problems = []
    for each in () if spec.untrained else metric_choices(entries):
        for path in files:
            texts = texts_of(read[path])
            if reason := _metrics()[each.name].refuses(texts, spec.height, spec.width):
                problems.append(f"metrics: {each.name}, model {spec.name}, {path}: {reason}")
    return problems
