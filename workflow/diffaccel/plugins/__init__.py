"""What a pipeline is made of and what is put on it, one file each.

`accelerators`, `models` (families, with the embedded models in `models.mini`), `metrics` and
`schedulers`. A file that is added is known everywhere. `space` describes the parameters that an
accelerator is searched over, `sources` tells folders, files and hub ids apart, `sizes` reads the
sides of images and latents.
"""
