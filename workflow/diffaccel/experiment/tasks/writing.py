"""Writing tasks: the exact sentence of a request."""

from __future__ import annotations

from diffaccel.experiment.tasks.limit_clauses import clauses
from diffaccel.experiment.tasks.request import Request
from diffaccel.plugins.accelerators import combination


def sentence(request: Request) -> str:
    """The task in its exact words; it says nothing of what the request leaves open."""
    text = (
        f"Generate a {request.model} pipeline using the {request.scheduler} sampler "
        f"with {request.steps} steps"
    )
    if request.accelerators:
        text += f", accelerated by {combination(request.accelerators).title}"
    if request.latency_s is not None:
        text += (
            f", running on {request.platform} in at most {float(request.latency_s)} "
            "seconds per image"
        )
    kept = [] if request.speedup is None else [f"{float(request.speedup)}x speedup"]
    kept += clauses(request.limits)
    if request.max_loss is not None:
        kept.append(f"precision loss not exceeding {float(request.max_loss)}")
    if not kept:
        return text
    *first, last = kept
    return f"{text} with {', '.join(first)} and {last}" if first else f"{text} with {last}"
