"""Whether an image of an embedded model shows what its caption says."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics._tensors import byte_tensor
from diffaccel.plugins.metrics.base import Compute, Images, Metric

EXAMPLE = "a large red square above a small blue ring on a gray ground"


class SceneRight(Metric):
    """1 where the scene is right, else 0: just the objects of the caption, each with its shape,
    colour, size and place, on the ground that it names. Nothing in it is learned
    (`diffaccel.plugins.models.mini.reading`). Its mean is the share of captions drawn right."""

    name = "scene_right"
    title = "scene-right"
    better = "higher"
    scale = "1 where the scene is right, else 0"
    needs_reference = False

    def prepare(self, source: str, device: str) -> Compute:
        from diffaccel.plugins.models.mini.reading import judge, read_scenes
        from diffaccel.plugins.models.mini.scenes import parse_caption

        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            readings = read_scenes(byte_tensor(images, "cpu"))
            scenes = map(parse_caption, prompts)
            pairs = zip(scenes, readings, strict=True)
            return [float(judge(scene, reading).right) for scene, reading in pairs]

        return compute

    def refuses(self, prompts: Sequence[str], height: int, width: int) -> str:
        from diffaccel.plugins.models.mini.scenes import IMAGE_SIZE, parse_caption

        if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
            return (
                f"it reads images of {IMAGE_SIZE}x{IMAGE_SIZE} pixels; these have {height}x{width}"
            )
        for prompt in prompts:
            try:
                parse_caption(prompt)
            except ValueError:
                return (
                    f"it reads scenes of the embedded models, such as {EXAMPLE!r}; got {prompt!r}"
                )
        return ""


PLUGIN = SceneRight()
