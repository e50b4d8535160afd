"""The axes of the experiment, and the names of its cells in keys and paths."""

from __future__ import annotations

from dataclasses import dataclass

from diffaccel.plugins.schedulers import scheduler_class


@dataclass(frozen=True, order=True)
class Configuration:
    """What is accelerated: a model sampled by a scheduler in so many steps."""

    model: str
    scheduler: str
    steps: int

    @property
    def slug(self) -> str:
        """Name in paths, e.g. ``mini-SD1.5_DDIM_20``."""
        return f"{self.model}_{self.scheduler}_{self.steps}"

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
        return cls(model, rest[0], int(rest[1]))


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
                scheduler_class(configuration.scheduler),
                str(configuration.steps),
                speedup,
                loss_limit,
                list(self.accelerators),
            )
        )
