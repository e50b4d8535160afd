"""Reading what earlier versions wrote: the names that fields had, and those that they have now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOW: Mapping[str, str] = {
    "about": "provenance",
    "facts": "pipeline",
    "identity": "fingerprint",
    "plain_usage": "baseline_usage",
    "promised_loss": "reported_loss",
    "promised_speedup": "reported_speedup",
    "rival": "fewer_steps",
    "setting": "parameters",
    "setup": "configuration",
    "verdicts": "results",
}
"""Names of fields in schemas 1 and 2, and since 3."""
RENAMED_IN = 3


def upgraded(value: Any, schema: int) -> Any:
    """A JSON value of a schema, with the names that its fields have now.

    Names of accelerators, metrics and parameters are keys as well; none of them is in `NOW`.
    """
    return value if schema >= RENAMED_IN else _renamed(value)


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {NOW.get(key, key): _renamed(item) for key, item in value.items()}
    return [_renamed(item) for item in value] if isinstance(value, list) else value
