"""What a run is going to do, in words, before it begins: what is measured, of how many candidates,
about how long that takes, and what it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from diffaccel.evaluation.gallery import ANSWER_SIDE, ANSWERS, KEPT, SIDE
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.inputs import count_of
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import devices, threads
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import (
    FAMILIES,
    ITEMSIZES,
    ModelError,
    ModelSpec,
    decoding_bytes,
    resolve_dtype,
)
from diffaccel.plugins.models._controlnet import network_parameters
from diffaccel.plugins.models._weights import read_json
from diffaccel.plugins.pipeline_tasks import steps_run
from diffaccel.plugins.schedulers import plugin_of
from diffaccel.plugins.sources import is_local, is_single_file
from diffaccel.search.strategies import STRATEGIES
from diffaccel.store.jsonio import RecordError, read_record

PIXEL = 2
"""Bytes of a pixel of a PNG, about: photographs do not compress much."""
KEPT_IMAGE = 40_000
"""Bytes, about, of an image that is kept of a candidate."""


def threads_of(experiment: Experiment, configuration: Configuration, cores: int | None) -> int:
    """Cores that a job of a configuration has for itself."""
    return threads.reserved(experiment.spec(configuration).threads, cores, gpu=experiment.on_gpu)


def slots_of(experiment: Experiment, configuration: Configuration, count: int) -> int:
    """Of `devices.SLOTS`. Small networks share a GPU, one of them at a time being timed.

    Args:
        count: of the GPUs that are visible.
    """
    jobs = experiment.spec(configuration).jobs_per_gpu if experiment.on_gpu else 1
    return devices.slots(count, jobs)


def at_once(experiment: Experiment, cores: int | None, count: int) -> int | None:
    """How many jobs that measure may run side by side on so many GPUs; None where others say
    that."""
    configurations = (experiment.configurations | experiment.speeds | experiment.judged).values()
    if cores is None or not configurations:
        return None
    each = (
        min(
            devices.SLOTS // slots_of(experiment, configuration, count),
            cores // threads_of(experiment, configuration, cores),
        )
        for configuration in configurations
    )
    return max(1, min(each))


@dataclass(frozen=True)
class Outlook:
    """What an experiment takes.

    Args:
        experiment: what is asked for.
        at_once: how many jobs run side by side; None where a cluster says that.
    """

    experiment: Experiment
    at_once: int | None = None

    @property
    def store(self) -> Path:
        return Path(self.experiment.config.results) / self.experiment.platform

    @cached_property
    def baselines(self) -> dict[str, Baseline]:
        """Those that are there of the experiment's configurations and models."""
        found = {}
        for path in sorted(self.store.glob("baseline/*.json")):
            try:
                found[path.stem] = read_record(Baseline, path)
            except RecordError:
                continue  # it is made again
        return found

    def call(self, configuration: Configuration) -> float | None:
        """Seconds of a call of the baseline, as measured here, or as one of the same model with
        other steps tells; None: nothing does."""
        like = [
            each
            for each in self.baselines.values()
            if each.configuration.model == configuration.model
        ]
        like.sort(
            key=lambda each: (
                each.configuration != configuration,
                abs(each.configuration.steps - configuration.steps),
            )
        )
        if not like:
            return None
        known, wanted = like[0], plugin_of(configuration.sampler)
        per_call = known.seconds_per_image * known.images_per_call / known.pipeline.calls
        strength = self.experiment.spec(configuration).strength
        return per_call * wanted.calls(steps_run(configuration.steps, strength))

    def prompts(self, configuration: Configuration) -> int:
        """How many a baseline is measured with: what is asked for, or what the file has; each as
        often as it has seeds."""
        measure, spec = self.experiment.config.measure, self.experiment.spec(configuration)
        found = count_of(spec, measure.prompts, measure.max_prompts or 0)
        return found * (self.experiment.options_for(configuration).seeds or 1)

    def candidates(self, configuration: Configuration) -> int | None:
        """How many are evaluated for the bounds of a configuration at most; None: the model must be
        fetched first."""
        pipeline = self._pipeline(configuration)
        if pipeline is None:
            return None
        options = self.experiment.config.search
        strategy = STRATEGIES[options.strategy]
        cells = [
            cell for cell in self.experiment.cells.values() if cell.configuration == configuration
        ]
        fewer_steps = self.experiment.fewer_steps(configuration)
        spaces = [
            joined.space(pipeline).searched(options.space, combined=len(cell.accelerators) > 1)
            for cell in (*cells, *([fewer_steps] if fewer_steps else []))
            if (joined := combination(cell.accelerators)).supports(pipeline)[0]
        ]
        return sum(strategy.at_most(space) for space in spaces)

    def _pipeline(self, configuration: Configuration) -> PipelineSpec | None:
        if configuration.slug in self.baselines:
            return self.baselines[configuration.slug].pipeline
        spec = self.experiment.spec(configuration)
        unet = _config(spec, "unet")
        if unet is None:
            return None
        plugin = plugin_of(configuration.sampler)
        pipeline = PipelineSpec.of_config(
            FAMILIES[spec.family].class_of(spec),
            unet,
            steps=configuration.steps,
            guidance_scale=spec.guidance_scale,
            size=(spec.height, spec.width),
            vae=_config(spec, "vae"),
            strength=spec.strength,
        )
        return replace(pipeline, order=plugin.order, extra=plugin.extra)

    def seconds(self, configuration: Configuration) -> float | None:
        """That a configuration takes at most, about; None: nothing tells. No call of a candidate is
        taken to be longer than one of the baseline."""
        call, measure = self.call(configuration), self.experiment.config.measure
        budgets = (self.experiment.config.search.budget, self.experiment.config.verify.budget)
        if call is None:
            return None if None in budgets else sum(each or 0.0 for each in budgets)
        spec = self.experiment.spec(configuration)
        images = self.experiment.options_for(configuration).images
        calls = math.ceil(images / spec.batch_size)
        prompts = self.prompts(configuration)
        baseline = call * (math.ceil(prompts / spec.batch_size) + measure.pairs)
        each = call * (calls + 2 * measure.pairs)
        count = self.candidates(configuration)
        search = math.inf if count is None else count * each
        verify = (
            self._scripts(configuration)
            * call
            * (2 * calls + 2 * self.experiment.config.verify.max_pairs)
        )
        pairs = zip((search, verify), budgets, strict=True)
        limited = (min(taken, budget or math.inf) for taken, budget in pairs)
        whole = baseline + sum(limited)
        return whole if math.isfinite(whole) else None

    def _scripts(self, configuration: Configuration) -> int:
        """How many tasks of a configuration may have one."""
        return sum(
            task.cell is not None and task.cell.configuration == configuration
            for task in self.experiment.tasks.values()
        )

    def disk(self) -> int:
        """Bytes that results take, about, besides fetched models."""
        total = 0.0
        for configuration in self.experiment.configurations.values():
            spec, prompts = self.experiment.spec(configuration), self.prompts(configuration)
            total += prompts * spec.height * spec.width * PIXEL
            total += (self.candidates(configuration) or 0) * KEPT * KEPT_IMAGE
            larger = min(spec.height * spec.width, ANSWER_SIDE**2) / SIDE**2
            answers = self._scripts(configuration) * min(prompts, ANSWERS)
            total += answers * KEPT_IMAGE * larger
        return round(total)

    def memory(self) -> Memory | None:
        """Of the model that needs the most; None: of one nothing is known before it is fetched."""
        every = (self.experiment.configurations | self.experiment.speeds).values()
        specs = {spec.name: spec for spec in map(self.experiment.spec, every)}
        needed = [self._memory(spec) for spec in specs.values()]
        known = [each for each in needed if each is not None]
        return max(known, key=lambda each: each.total) if known == needed and known else None

    def _memory(self, spec: ModelSpec) -> Memory | None:
        device = "cuda" if self.experiment.on_gpu else "cpu"
        itemsize = ITEMSIZES[resolve_dtype(spec.dtype, device)]
        vae, parameters = _config(spec, "vae"), _parameters(spec)
        if vae is None or parameters is None:
            return None
        images = max([spec.batch_size, *self.experiment.config.verify.batch_sizes])
        pixels = images * spec.height * spec.width
        weights = parameters * itemsize
        return Memory(spec.name, images, weights, decoding_bytes(vae, pixels, itemsize))


@dataclass(frozen=True)
class Memory:
    """What a model needs of its device's memory, in bytes, as it is expected.

    Args:
        model: whose.
        images: of a call.
        weights: of all its networks.
        call: of the baseline, beside them.
    """

    model: str
    images: int
    weights: int
    call: int

    @property
    def total(self) -> int:
        return self.weights + self.call


def _config(spec: ModelSpec, part: Literal["unet", "vae"]) -> Mapping[str, Any] | None:
    """Of a network of a model: its own where the model is here, else its family's."""
    sizes, single = FAMILIES[spec.family].sizes, is_single_file(spec.source)
    replaced = spec.vae if part == "vae" else None
    if not spec.source or single or not is_local(replaced or spec.source):
        return sizes.vae_config if part == "vae" else sizes.unet_config
    folder = Path(replaced) if replaced else Path(spec.source) / part
    try:
        return read_json(folder / "config.json")
    except (ModelError, OSError):
        return None


def _parameters(spec: ModelSpec) -> int | None:
    """Numbers in all weights of a model, or in those of its family's while it is not here."""
    family = FAMILIES[spec.family]
    if spec.untrained or not is_local(spec.source):
        return family.sizes.parameters
    try:
        own = family.parameters(spec, Path(spec.source))
        net = spec.controlnet if spec.controlnet and is_local(spec.controlnet) else None
        return own + (network_parameters(Path(net)) if net else 0)
    except (ModelError, OSError):
        return None


def lines(outlook: Outlook) -> Iterator[str]:
    """The outlook in words, a line each."""
    experiment = outlook.experiment
    configurations = experiment.configurations.values()
    cells = len(experiment.cells)
    if experiment.speeds:
        yield f"{_count(len(experiment.speeds), 'untrained configuration')} to be timed"
    if not configurations:
        if experiment.speeds:
            yield f"  needed: {_needed(outlook)}"
        return
    prompts = [outlook.prompts(configuration) for configuration in configurations]
    fewest, most = min(prompts), max(prompts)
    baseline = f"{most}" if fewest == most else f"{fewest} to {most}"
    up_to = f"{most}" if fewest == most else "as many"
    yield (
        f"{_count(len(configurations), 'configuration')} (model, scheduler, steps), "
        f"{_count(cells, 'cell')} with their accelerators, on {experiment.platform}"
    )
    options = [experiment.options_for(each) for each in configurations]
    usual = sorted({each.images for each in options})
    what = "images" if any(each.seeds for each in options) else "prompts"
    each = " to ".join(map(str, usual[:: max(1, len(usual) - 1)]))
    yield (
        f"  measured: a baseline of {baseline} {what} each; of a candidate {each}, and "
        f"up to {up_to} where it may be an answer and that is not clear"
    )
    counts = [outlook.candidates(configuration) for configuration in configurations]
    known = [count for count in counts if count is not None]
    unknown = len(counts) - len(known)
    fetched = f"; of {unknown} the model must be fetched first" if unknown else ""
    own = "; your tasks may add some" if experiment.user_tasks else ""
    yield f"  candidates: {sum(known)} at most{own}{fetched}"
    yield f"  asked for: {_asked(experiment)}"
    yield f"  time: {_time(outlook)}"
    yield f"  needed: {_needed(outlook)}"


def _asked(experiment: Experiment) -> str:
    parts = [f"{', '.join(f'{each:g}x' for each in experiment.config.speedups)} of each cell"]
    if own := len(experiment.user_tasks):
        parts.append(f"{_count(own, 'task')} of yours")
    wrong = experiment.misunderstood
    if wrong:
        first = wrong[0]
        problem = (first.problem or "").splitlines()[0]
        parts.append(f"{len(wrong)} of these not understood, first {first.id}: {problem}")
    return "; ".join(part for part in parts if part != " of each cell")


def _time(outlook: Outlook) -> str:
    from diffaccel.report.words import duration

    configurations = [*outlook.experiment.configurations.values()]
    config = outlook.experiment.config
    budgets = [
        f"{what} ends after {duration(seconds)} ({key}.budget)"
        for what, key, seconds in (
            ("a search", "search", config.search.budget),
            ("a verification", "verify", config.verify.budget),
        )
        if seconds is not None
    ]
    each = [outlook.seconds(configuration) for configuration in configurations]
    calls = [outlook.call(configuration) for configuration in configurations]
    rests = [*budgets]
    if measured := [call for call in calls if call is not None]:
        span = dict.fromkeys(f"{each:.3g}" for each in (min(measured), max(measured)))
        rests.append(f"a call of the baseline took {' to '.join(span)} s")
    if None in calls:
        rests.append("a call of the baseline is not timed yet")
    if None in each:
        return f"known once a baseline is timed; {'; '.join(rests)}"
    known = [seconds for seconds in each if seconds is not None]
    jobs = outlook.at_once or 1
    whole = max(sum(known) / jobs, max(known))
    how = "one after the other" if jobs == 1 else f"{jobs} at once"
    besides = " and the baselines" if None in calls else ""
    return f"at most about {duration(whole)}{besides}, {how}: {'; '.join(rests)}"


def _needed(outlook: Outlook) -> str:
    where = "GPU memory" if outlook.experiment.on_gpu else "memory"
    disk, needed = f"about {_bytes(outlook.disk())} of disk", outlook.memory()
    if needed is None:
        return f"{disk}; {where} as the models turn out to need it"
    images = f"{needed.images} image{'s' * (needed.images != 1)}"
    return (
        f"{disk}; about {_bytes(needed.total)} of {where} for {needed.model} "
        f"({_bytes(needed.weights)} of weights, {_bytes(needed.call)} for a baseline call of "
        f"{images}); accelerators that cache, the scorer and libraries take some more"
    )


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
