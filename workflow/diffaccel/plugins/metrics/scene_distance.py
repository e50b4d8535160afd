"""How much of a scene of an embedded model changed against the baseline's image."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics._tensors import byte_tensor
from diffaccel.plugins.metrics._weights import folder_of
from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references


class SceneDistanceMetric(Metric):
    """About how many attributes changed: shapes, colours, sizes and places of the objects, and the
    ground. A small network that was trained on drawn scenes
    (`diffaccel.plugins.models.mini.distance`)."""

    name = "scene_distance"
    title = "scene-distance"
    better = "lower"
    scale = "0 is the same image; 1 is about one attribute changed"
    needs_reference = True
    needs_source = True
    source = "resources/models/mini-scene-distance"

    def prepare(self, source: str, device: str) -> Compute:
        import torch

        from diffaccel.plugins.models import ModelError
        from diffaccel.plugins.models.mini.distance import load

        folder = folder_of("scene_distance", source)
        try:
            model = load(folder).to(device)
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"metric 'scene_distance': {folder}: no such network: {error}"
            ) from error

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            both = images, with_references("scene_distance", references)
            tensors = [byte_tensor(each, device) for each in both]
            # One pair a call: what comes out then depends on no other.
            return [float(model(a[None], b[None])) for a, b in zip(*tensors, strict=True)]

        return compute

    def refuses(self, prompts: Sequence[str], height: int, width: int) -> str:
        from diffaccel.plugins.models.mini.scenes import IMAGE_SIZE

        if (height, width) == (IMAGE_SIZE, IMAGE_SIZE):
            return ""
        return (
            f"it compares scenes of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, which the embedded models "
            f"generate; these have {height}x{width}"
        )


PLUGIN = SceneDistanceMetric()
