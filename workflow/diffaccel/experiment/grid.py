"""The axes of the experiment, and the names of its cells in keys and paths."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Annotated, Any

from diffaccel.plugins.schedulers import SchedulerSpec, scheduler_named
from diffaccel.registry import UnknownNameError
from diffaccel.store.jsonio import UNSAID


@dataclass(frozen=True, order=True)
class Configuration:
    """What is accelerated: a model sampled by a scheduler in so many steps.

    Args:
        scheduler: its name.
        own_scheduler: what the name stands for where a user's configuration says it; None: the name
            is a known one.
    """

    model: str
    scheduler: str
    steps: int
    own_scheduler: Annotated[SchedulerSpec | None, UNSAID] = field(default=None, compare=False)

    @property
    def sampler(self) -> SchedulerSpec:
        """What its scheduler's name stands for.

        Raises:
            UnknownNameError: nothing that is known here.
        """
        return self.own_scheduler or scheduler_named(self.scheduler)

    @property
    def words(self) -> dict[str, Any]:
        """What a task says of it, by field of `diffaccel.experiment.tasks.Request`."""
        return {"model": self.model, "scheduler": self.scheduler, "steps": self.steps}

    @property
    def slug(self) -> str:
        """Name in paths, e.g. ``mini-SD1.5_DDIM_20`` or ``SDXL_Euler-a_25``."""
        return f"{self.model}_{self.scheduler.replace(' ', '-')}_{self.steps}"

    @property
    def title(self) -> str:
        """As people say it: ``SD1.5, DDIM, 50 steps``."""
        return f"{self.model}, {self.scheduler}, {self.steps} steps"

    @classmethod
    def named(cls, slug: str) -> Configuration | None:
        """That of a name in paths, or None where it is none of a configuration."""
        model, *rest = slug.rsplit("_", 2)
        if len(rest) < 2 or not rest[1].isdecimal():
            return None
        name = rest[0]
        with contextlib.suppress(UnknownNameError):  # a user's own
            name = scheduler_named(name).name
        return cls(model, name, int(rest[1]))


@dataclass(frozen=True, order=True)
class Cell:
    """A configuration and the accelerators (short names, sorted) put on it."""

    configuration: Configuration
    accelerators: tuple[str, ...]

    def __post_init__(self) -> None:
        if list(self.accelerators) != sorted(set(self.accelerators)) or not self.accelerators:
            raise ValueError(f"accelerators must be sorted and differ; got {self.accelerators}")

    @property
    def slug(self) -> str:
        """Name in paths, e.g. ``mini-SD1.5_DDIM_20_deepcache+tgate``."""
        return f"{self.configuration.slug}_{'+'.join(self.accelerators)}"

    def key(self, speedup: str, loss_limit: float) -> str:
        """Key in the stores; ``speedup``: ``"upbound_speedup"`` or a measured one, "2.31"."""
        configuration = self.configuration
        return str(
            (
                configuration.model,
                configuration.sampler.key,
                str(configuration.steps),
                speedup,
                loss_limit,
                list(self.accelerators),
            )
        )
