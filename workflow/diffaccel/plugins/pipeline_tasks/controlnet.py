"""ControlNet: an image (edges, a pose, a depth map) guides the layout (Zhang, Rao, Agrawala, 2023,
arXiv:2302.05543).

The image is the condition itself, as the ControlNet was trained on it: edges must be found, and
depths estimated, before.
"""

from __future__ import annotations

from diffaccel.plugins.pipeline_tasks.base import PipelineTask

PLUGIN = PipelineTask(
    name="controlnet",
    title="ControlNet",
    classes={
        "StableDiffusionPipeline": "StableDiffusionControlNetPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLControlNetPipeline",
    },
    controlled=True,
    # A copy of the U-Net's first half, at every step: 0.35 of the operations of SD1.5's U-Net at
    # 512 pixels, 0.45 of SDXL's at 1024 (tests/unit/plugins/test_pipeline_tasks.py counts them).
    beside=0.4,
)
