"""What a pipeline is made of and what is put on it, one file each.

`accelerators`, `models` (families, with the embedded models in `models.mini`), `metrics`,
`schedulers` and `pipeline_tasks` (what a pipeline makes of what). A file that is added is known
everywhere. `space` describes the parameters that an accelerator is searched over, `sources` tells
folders, files and hub ids apart, `sizes` reads the sides of images and latents, and `metric_choice`
is a metric as records hold it.
"""
