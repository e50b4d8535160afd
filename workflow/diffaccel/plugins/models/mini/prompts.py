"""The prompt sets of the mini models: held-out captions in an order whose prefixes are balanced.

`python -m diffaccel.plugins.models.mini.prompts --out resources/prompts` writes `mini.txt` and
`mini-heldout.txt`, one caption a line; equal code writes equal bytes.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from functools import cache
from pathlib import Path

from diffaccel.plugins.models.mini.scenes import Scene, random_scene

SET_SIZE = 128
SEED = 20
# Numbers of objects, in turn: mostly two, as in training.
COUNTS = (2, 3, 2, 1, 2, 2, 3, 2)
CANDIDATES = 64


def _features(scene: Scene) -> list[tuple[str, str]]:
    """What a balanced set holds equally often."""
    found = [("ground", scene.ground), ("layout", scene.layout)]
    for item in scene.items:
        found += [("shape", item.shape), ("colour", item.colour), ("size", item.size or "")]
    return found


def balanced_scenes(count: int, rng: random.Random, taken: set[Scene]) -> list[Scene]:
    """Choose held-out scenes one by one, each the least repetitive of some random candidates.

    `taken` holds the canonical scenes that must not come again; the chosen ones are added to it.
    """
    chosen: list[Scene] = []
    seen: Counter[tuple[str, str]] = Counter()
    while len(chosen) < count:
        pool: list[Scene] = []
        while len(pool) < CANDIDATES:
            scene = random_scene(rng, COUNTS[len(chosen) % len(COUNTS)])
            if scene.held_out and scene.canonical not in taken:
                pool.append(scene)
        best = min(pool, key=lambda scene: sum(seen[f] for f in _features(scene)))
        seen.update(_features(best))
        taken.add(best.canonical)
        chosen.append(best)
    return chosen


@cache
def prompt_sets() -> dict[str, list[str]]:
    """The captions of the search set and of the held-out set, by file name."""
    rng, taken = random.Random(SEED), set[Scene]()
    return {
        name: [scene.caption for scene in balanced_scenes(SET_SIZE, rng, taken)]
        for name in ("mini.txt", "mini-heldout.txt")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the prompt sets of the mini models.")
    parser.add_argument("--out", type=Path, default=Path("resources/prompts"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, captions in prompt_sets().items():
        (out / name).write_text("\n".join(captions) + "\n", encoding="utf-8")
        print(f"{out / name}: {len(captions)} captions")


if __name__ == "__main__":
    main()
