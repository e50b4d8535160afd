"""What a scheduler declares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheduler:
    """A scheduler of diffusers. The instance ``PLUGIN`` of a file is the plugin.

    Args:
        name: in configurations, tasks and the names of files: without ``_`` and ``/``.
        diffusers: its class there; tasks understand that as well.
        aliases: what else people write in tasks; case and punctuation do not matter.
    """

    name: str
    diffusers: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("_/"):
            raise ValueError(f"the name of a scheduler has no _ and no /; got {self.name!r}")
