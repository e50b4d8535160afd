"""The models that the repository carries."""

from __future__ import annotations

from diffaccel.plugins.models._spec import ModelSpec


def embedded(family: str) -> ModelSpec:
    """The small model of a family that the repository carries."""
    return ModelSpec(
        name=f"mini-{family}",
        family=family,
        source=f"resources/models/mini-{family}",
        height=128,
        width=128,
        guidance_scale=3.0,
        batch_size=4,
        scorer="resources/models/mini-clip",
        prompts="resources/prompts/mini.txt",
        heldout="resources/prompts/mini-heldout.txt",
        # So small a network is hardly faster on two threads, and times far less steadily. A GPU
        # mostly waits for the processor to launch the next of its kernels.
        threads=1,
        jobs_per_gpu=8,
    )
