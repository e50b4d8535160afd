"""Inpainting: what a mask shows white is drawn anew, the rest of an image stays.

U-Nets of 9 channels take the mask and the masked image beside the latents. Of others the latents
outside of the mask are put back after each step (Lugmayr et al., 2022, RePaint, arXiv:2201.09865,
without its resampling).
"""

from __future__ import annotations

from diffaccel.plugins.pipeline_tasks.base import IMAGE, Input, PipelineTask

PLUGIN = PipelineTask(
    name="inpainting",
    title="Inpainting",
    classes={
        "StableDiffusionPipeline": "StableDiffusionInpaintPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLInpaintPipeline",
    },
    # Grey would be half of a mask, which diffusers rounds to none or all of it.
    inputs=(IMAGE, Input("mask", "mask_image", mode="L", resampling="NEAREST", ending="_mask")),
    strengths={"StableDiffusionInpaintPipeline": 1.0, "StableDiffusionXLInpaintPipeline": 0.9999},
    rescales=("StableDiffusionXLInpaintPipeline",),
    channels=(9,),
)
