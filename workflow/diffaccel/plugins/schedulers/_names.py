"""Names of schedulers as people write them: ``Euler a``, ``DPM++ 2M Karras``, ``Euler trailing``.

A name is that of a scheduler, then perhaps a noise schedule, then perhaps a spacing of the times.
The options of these words are those that diffusers documents for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from diffaccel.plugins.schedulers.base import Option, Options, Scheduler, SchedulerSpec
from diffaccel.registry import Registry, UnknownNameError, suggest

SCHEDULERS: Registry[Scheduler] = Registry("diffaccel.plugins.schedulers", "scheduler")
NOISE_SCHEDULES: Mapping[str, Options] = {
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True, "timestep_spacing": "linspace"},
    "beta": {"use_beta_sigmas": True, "timestep_spacing": "linspace"},
}
SPACINGS: Mapping[str, Options] = {
    name: {"timestep_spacing": name} for name in ("trailing", "leading", "linspace")
}
_ALSO = {"sgmuniform": "trailing"}
"""Folded words, and what they are called here."""


def folded(name: str) -> str:
    """What is left of a name when case and punctuation are not looked at."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def scheduler_named(given: str) -> SchedulerSpec:
    """What a name stands for.

    Raises:
        UnknownNameError: nothing that is known here.
    """
    rest, spacing = _split(folded(given), SPACINGS)
    rest, schedule = _split(rest, NOISE_SCHEDULES)
    plugin = _by_word().get(rest)
    if plugin is None:
        endings = ", ".join((*NOISE_SCHEDULES, *SPACINGS))
        raise UnknownNameError(
            f"unknown scheduler {given!r}: {suggest(given, SCHEDULERS)}. Behind most of these may "
            f"stand one of {endings} (docs/reference/samplers.md)"
        )
    for word, taken, what in (
        (schedule, plugin.noise_schedules, "noise schedule of that name"),
        (spacing, plugin.spacings, "timestep_spacing"),
    ):
        if word and not taken:
            raise UnknownNameError(
                f"scheduler {given!r}: {plugin.diffusers} has no {what}, so {word} cannot stand "
                f"behind it; write {plugin.name!r}"
            )
    options: dict[str, Option] = {
        **plugin.options,
        **NOISE_SCHEDULES.get(schedule, {}),
        **SPACINGS.get(spacing, {}),
    }
    if not plugin.spacings:
        options.pop("timestep_spacing", None)
    words = [word for word in (schedule, spacing) if word]
    name = " ".join([plugin.stem or plugin.name, *words]) if words else plugin.name
    return SchedulerSpec(name, plugin.diffusers, options)


def plugin_of(spec: SchedulerSpec) -> Scheduler:
    """The plugin that knows the class of a scheduler, the one with most of its options.

    Raises:
        UnknownNameError: none does.
    """
    fitting = [
        plugin
        for plugin in SCHEDULERS.values()
        if plugin.diffusers == spec.diffusers and plugin.options.items() <= spec.options.items()
    ]
    if not fitting:
        return SCHEDULERS[spec.diffusers]  # says what is known
    return max(fitting, key=lambda plugin: len(plugin.options))


def is_stochastic(spec: SchedulerSpec) -> bool:
    """Whether it adds noise of its own at its steps."""
    algorithm = str(spec.options.get("algorithm_type"))
    return plugin_of(spec).stochastic or algorithm.startswith("sde")


def _split(name: str, words: Mapping[str, Options]) -> tuple[str, str]:
    """A folded name without the word that it ends in, and that word, or none."""
    endings = {folded(word): word for word in words}
    endings |= {also: word for also, word in _ALSO.items() if word in words}
    for ending, word in endings.items():
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending), word
    return name, ""


@cache
def _by_word() -> dict[str, Scheduler]:
    """Plugins by all that they are called, folded."""
    found: dict[str, Scheduler] = {}
    for plugin in SCHEDULERS.values():
        for word in (plugin.name, plugin.stem, *plugin.aliases):
            found[folded(word)] = plugin
        if not plugin.options:
            found[folded(plugin.diffusers)] = plugin
    return found
