"""Small diffusion models trained on scenes drawn by code, and the scorer that goes with them.

`scenes` draws scenes and captions, `prompts` makes prompts of them. `models` builds the networks;
`train` trains them: `train_vae`, `train_scorer` and `train_unet`, with what these share in
`training`. `train_lora` trains a LoRA. `distance` is a perceptual distance of scenes, and
`train_distance` trains it. `reading` reads scenes off images, `quality` measures how many are
right. `tiny` makes pipelines with random weights for tests.
"""
