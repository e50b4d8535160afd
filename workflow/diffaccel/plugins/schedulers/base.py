"""What a scheduler declares, and what one is as a pipeline gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Option = str | int | float | bool | None
"""A value of an argument of a scheduler's class."""
Options = Mapping[str, Option]


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler as it is asked for.

    Args:
        name: in configurations, tasks and results.
        diffusers: its class there.
        options: arguments of the class that make it what it is; all others are the class's own, or
            what the model was trained with.
    """

    name: str
    diffusers: str
    options: dict[str, Option] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """In the keys of the stores: the class, with the options where there are any."""
        if not self.options:
            return self.diffusers
        told = ", ".join(f"{name}={value!r}" for name, value in sorted(self.options.items()))
        return f"{self.diffusers}({told})"

    @property
    def entry(self) -> dict[str, Option]:
        """As one that is no known name stands in a configuration."""
        return {"name": self.name, "scheduler": self.diffusers, **self.options}


@dataclass(frozen=True)
class Scheduler:
    """A scheduler of diffusers. The instance ``PLUGIN`` of a file is the plugin.

    Args:
        name: in configurations and tasks, as people write it; without ``_`` and ``/``.
        diffusers: its class there; tasks understand that as well.
        aliases: what else people write; case and punctuation do not matter.
        stem: what stands for it in names with a noise schedule, where that is not the name: ``DPM++
            2M`` of ``DPM++ 2M Karras``.
        options: arguments of the class that the name stands for.
        always: what holds whatever a model's own scheduler says. Latents are no pixels between -1
            and 1, so that none may be clipped.
        noise_schedules: whether the class takes Karras, exponential and beta sigmas.
        spacings: whether it takes a ``timestep_spacing``.
        order: calls of the U-Net for a step; the last step has one.
        extra: calls on top of these, whatever the steps.
        stochastic: whether it adds noise of its own at its steps.
        requires: package that the class needs besides.
    """

    name: str
    diffusers: str
    aliases: tuple[str, ...] = ()
    stem: str = ""
    options: Options = field(default_factory=dict)
    always: Options = field(default_factory=dict)
    noise_schedules: bool = False
    spacings: bool = True
    order: int = 1
    extra: int = 0
    stochastic: bool = False
    requires: str | None = None

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("_/"):
            raise ValueError(f"the name of a scheduler has no _ and no /; got {self.name!r}")

    def calls(self, steps: int) -> int:
        """How often the U-Net is called in so many steps."""
        return self.order * steps - (self.order - 1) + self.extra
