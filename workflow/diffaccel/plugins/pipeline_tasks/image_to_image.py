"""Image-to-image: an image is noised and drawn anew (Meng et al., 2022, SDEdit, arXiv:2108.01073).

The call takes no size: it draws what the image is as large as.
"""

from __future__ import annotations

from diffaccel.plugins.pipeline_tasks.base import PipelineTask

PLUGIN = PipelineTask(
    name="image-to-image",
    title="Image-to-image",
    classes={
        "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    },
    strengths={"StableDiffusionImg2ImgPipeline": 0.8, "StableDiffusionXLImg2ImgPipeline": 0.3},
    sized=False,
    rescales=("StableDiffusionXLImg2ImgPipeline",),
)
